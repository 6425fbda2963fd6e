// Azure Managed Redis, for limits that all gateways count together, and for the fault tolerance of Ray's head.
// Not Azure Cache for Redis, which is being retired. One shard: neither of the two wants a cluster.
param name string
param location string
param tags object

@description('Such as Balanced_B1.')
param sku string
param highAvailability bool
param vaultName string

resource cache 'Microsoft.Cache/redisEnterprise@2025-07-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: sku }
  properties: {
    minimumTlsVersion: '1.2'
    highAvailability: highAvailability ? 'Enabled' : 'Disabled'
    publicNetworkAccess: 'Disabled'
  }
}

resource database 'Microsoft.Cache/redisEnterprise/databases@2025-07-01' = {
  parent: cache
  name: 'default'
  properties: {
    clientProtocol: 'Encrypted'
    port: 10000
    clusteringPolicy: 'NoCluster'
    evictionPolicy: 'NoEviction' // what is evicted is a limit that is no longer counted
    accessKeysAuthentication: 'Enabled' // Ray's head knows no other way to sign in
    persistence: { aofEnabled: true, aofFrequency: '1s', rdbEnabled: false }
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource kept 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  // checkov:skip=CKV_AZURE_41: a password that expires takes the service down; it is changed by hand, README.md
  parent: vault
  name: 'clinserve-redis-password'
  properties: { value: database.listKeys().primaryKey, contentType: 'text/plain' }
}

output id string = cache.id
output url string = 'rediss://${cache.properties.hostName}:10000/0'
