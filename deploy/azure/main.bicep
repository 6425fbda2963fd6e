// clinserve on Azure: everything that the Helm chart expects to find, in one resource group. Not deployed by us yet; README.md.
targetScope = 'resourceGroup'

@description('In the names of all resources: lower-case letters and digits.')
@minLength(3)
@maxLength(11)
param name string
param location string = resourceGroup().location
param tags object = {}

@description('Of the network; it must not overlap with what the network is peered to.')
param addressPrefix string = '10.20.0.0/20'

@description('Of nodes, which take an address each (pods have their own), and of private endpoints.')
param nodesPrefix string = '10.20.0.0/22'
param endpointsPrefix string = '10.20.4.0/24'
param zones array = ['1', '2', '3']

@description('Object ids of the groups that administer the cluster and Grafana.')
param adminGroupIds array

@description('Minor version; patches come by themselves.')
param kubernetesVersion string = '1.34'

@description('Uptime promise of the control plane.')
@allowed(['Free', 'Standard', 'Premium'])
param clusterTier string = 'Standard'
param systemVmSize string = 'Standard_D4ads_v5'
param workVmSize string = 'Standard_D8ads_v5'
param workMaximum int = 6

@description('Pools of GPU nodes: { name, vmSize, minimum, maximum, migProfile }, one for each kind of GPU.')
param gpuPools array

@description('Namespace and service account of the chart\'s release; the other accounts\' names begin with it.')
param namespace string = 'clinserve'
param serviceAccount string = 'clinserve'

param postgresSku string = 'Standard_D2ds_v5'
@allowed(['Burstable', 'GeneralPurpose', 'MemoryOptimized'])
param postgresTier string = 'GeneralPurpose'
param postgresGiB int = 128
param postgresBackupDays int = 35

@secure()
param postgresPassword string
param redisSku string = 'Balanced_B1'

@description('Standbys of database and Redis, and copies of registry and weights in other zones.')
param highAvailability bool = true

@description('Days that logs are kept. Clinserve\'s own audit log is in the database.')
param logDays int = 90

@description('A month, in the currency of the subscription.')
param budget int
param budgetStart string
param budgetEmails array

var suffix = uniqueString(resourceGroup().id)
// Those of the public cloud; sovereign clouds have others.
var vaultZone = 'privatelink.vaultcore.azure.net'
var registryZone = 'privatelink.azurecr.io'
var blobZone = 'privatelink.blob.${environment().suffixes.storage}'
var postgresZone = 'privatelink.postgres.database.azure.com'
var redisZone = 'privatelink.redis.azure.net'

module network 'modules/network.bicep' = {
  params: {
    name: '${name}-network'
    location: location
    tags: tags
    addressPrefix: addressPrefix
    nodesPrefix: nodesPrefix
    endpointsPrefix: endpointsPrefix
  }
}

module identity 'modules/identity.bicep' = {
  params: {
    name: name
    location: location
    tags: tags
    networkName: network.outputs.name
  }
}

module monitor 'modules/monitor.bicep' = {
  params: {
    name: name
    location: location
    tags: tags
    logDays: logDays
    grafanaAdminGroupIds: adminGroupIds
    workloadPrincipalId: identity.outputs.workloadPrincipalId
  }
}

module aks 'modules/aks.bicep' = {
  params: {
    name: '${name}-aks'
    location: location
    tags: tags
    kubernetesVersion: kubernetesVersion
    tier: clusterTier
    adminGroupIds: adminGroupIds
    controlPlaneIdentityId: identity.outputs.controlPlaneId
    subnetId: network.outputs.nodesSubnetId
    logsId: monitor.outputs.logsId
    prometheusRuleId: monitor.outputs.prometheusRuleId
    prometheusEndpointId: monitor.outputs.prometheusEndpointId
    systemVmSize: systemVmSize
    workVmSize: workVmSize
    workMaximum: workMaximum
    zones: zones
  }
}

// One after the other: a cluster changes one pool at a time.
@batchSize(1)
module gpuPool 'modules/gpuPool.bicep' = [
  for pool in gpuPools: {
    params: {
      clusterName: aks.outputs.name
      name: pool.name
      vmSize: pool.vmSize
      minimum: pool.minimum
      maximum: pool.maximum
      migProfile: pool.migProfile
      subnetId: network.outputs.nodesSubnetId
      zones: zones
    }
  }
]

module federation 'modules/federation.bicep' = {
  params: {
    identityName: identity.outputs.workloadName
    issuer: aks.outputs.issuer
    namespace: namespace
    serviceAccounts: [serviceAccount, '${serviceAccount}-head', '${serviceAccount}-prepare', '${serviceAccount}-test']
  }
}

module enginesFederation 'modules/federation.bicep' = {
  params: {
    identityName: identity.outputs.enginesName
    issuer: aks.outputs.issuer
    namespace: namespace
    serviceAccounts: ['${serviceAccount}-engine']
  }
}

module keyVault 'modules/keyVault.bicep' = {
  params: {
    name: take('${name}${suffix}', 24)
    location: location
    tags: tags
    workloadPrincipalId: identity.outputs.workloadPrincipalId
    logsId: monitor.outputs.logsId
  }
}

module acr 'modules/acr.bicep' = {
  params: {
    name: '${name}${suffix}'
    location: location
    tags: tags
    kubeletPrincipalId: aks.outputs.kubeletPrincipalId
    zoneRedundancy: highAvailability ? 'Enabled' : 'Disabled'
  }
}

module storage 'modules/storage.bicep' = {
  params: {
    name: take('${name}${suffix}', 24)
    location: location
    tags: tags
    sku: highAvailability ? 'Standard_ZRS' : 'Standard_LRS'
    workloadPrincipalId: identity.outputs.workloadPrincipalId
    enginesPrincipalId: identity.outputs.enginesPrincipalId
  }
}

module postgres 'modules/postgres.bicep' = {
  params: {
    name: '${name}-${suffix}'
    location: location
    tags: tags
    sku: postgresSku
    tier: postgresTier
    storageGiB: postgresGiB
    highAvailability: highAvailability
    backupDays: postgresBackupDays
    password: postgresPassword
    vaultName: keyVault.outputs.name
    logsId: monitor.outputs.logsId
  }
}

module redis 'modules/redis.bicep' = {
  params: {
    name: '${name}-${suffix}'
    location: location
    tags: tags
    sku: redisSku
    highAvailability: highAvailability
    vaultName: keyVault.outputs.name
  }
}

module privateDns 'modules/privateDns.bicep' = {
  params: {
    networkId: network.outputs.id
    tags: tags
    zones: [vaultZone, registryZone, blobZone, postgresZone, redisZone]
  }
}

var reached = [
  { name: 'vault', group: 'vault', zone: vaultZone }
  { name: 'registry', group: 'registry', zone: registryZone }
  { name: 'blob', group: 'blob', zone: blobZone }
  { name: 'postgres', group: 'postgresqlServer', zone: postgresZone }
  { name: 'redis', group: 'redisEnterprise', zone: redisZone }
]
// Apart and in the same order, since a loop may only go over what is known before anything is deployed.
var targets = [keyVault.outputs.id, acr.outputs.id, storage.outputs.id, postgres.outputs.id, redis.outputs.id]

module endpoint 'modules/endpoint.bicep' = [
  for (one, i) in reached: {
    params: {
      name: '${name}-${one.name}'
      location: location
      tags: tags
      subnetId: network.outputs.endpointsSubnetId
      targetId: targets[i]
      group: one.group
      zoneName: one.zone
    }
    dependsOn: [privateDns]
  }
]

module spending 'modules/budget.bicep' = {
  params: {
    name: name
    amount: budget
    startDate: budgetStart
    emails: budgetEmails
  }
}

// What the chart's values and clinserve's configuration ask for.
output clusterName string = aks.outputs.name
output imageRegistry string = acr.outputs.server
output workloadClientId string = identity.outputs.workloadClientId
output enginesClientId string = identity.outputs.enginesClientId
output enginesPrincipalId string = identity.outputs.enginesPrincipalId
output keyVaultUrl string = keyVault.outputs.url
output databaseUrl string = postgres.outputs.url
output redisUrl string = redis.outputs.url
output weightsUrl string = storage.outputs.weightsUrl
output batchesUrl string = storage.outputs.batchesUrl
output tracesConnectionString string = monitor.outputs.tracesConnectionString
output grafanaUrl string = monitor.outputs.grafanaUrl
