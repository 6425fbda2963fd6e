// The registry of the images. Premium: only it has private endpoints.
param name string
param location string
param tags object

@description('The nodes\' identity, which pulls.')
param kubeletPrincipalId string

@allowed(['Enabled', 'Disabled'])
param zoneRedundancy string

var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  // checkov:skip=CKV_AZURE_166: quarantine is a preview that needs a scanner which lets images out again; bring yours
  name: name
  location: location
  tags: tags
  sku: { name: 'Premium' }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: 'Disabled'
    networkRuleBypassOptions: 'AzureServices'
    dataEndpointEnabled: true
    zoneRedundancy: zoneRedundancy
    policies: { retentionPolicy: { status: 'enabled', days: 30 } }
  }
}

resource pulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, kubeletPrincipalId, acrPull)
  scope: registry
  properties: {
    principalId: kubeletPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
  }
}

output id string = registry.id
output server string = registry.properties.loginServer
