// Weights (read only) and the files of batches, without account keys.
param name string
param location string
param tags object

@description('Such as Standard_ZRS.')
param sku string

@description('Clinserve\'s identity.')
param workloadPrincipalId string

@description('Engines\' identity, which reads weights and nothing else.')
param enginesPrincipalId string

var blobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  // checkov:skip=CKV_AZURE_206: copies in other zones but no other region: batches hold patient text, weights can be had again
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Disabled'
    networkAcls: { defaultAction: 'Deny', bypass: 'AzureServices' }
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
      services: { blob: { enabled: true, keyType: 'Account' } }
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    // Of batches too, which hold patient text: what is deleted is gone after a week.
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

resource weights 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'weights'
  properties: { publicAccess: 'None' }
}

resource batches 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'batches'
  properties: { publicAccess: 'None' }
}

resource readsWeights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(weights.id, enginesPrincipalId, blobDataReader)
  scope: weights
  properties: {
    principalId: enginesPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataReader)
  }
}

resource writesBatches 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(batches.id, workloadPrincipalId, blobDataContributor)
  scope: batches
  properties: {
    principalId: workloadPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
}

output id string = account.id
output weightsUrl string = 'az://${account.name}/${weights.name}'
output batchesUrl string = '${account.properties.primaryEndpoints.blob}${batches.name}'
