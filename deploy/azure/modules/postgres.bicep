// The database of tenants, usage, audit and batches. Its password goes into the vault, under the name that clinserve reads.
param name string
param location string
param tags object

@description('Such as Standard_D2ds_v5.')
param sku string

@allowed(['Burstable', 'GeneralPurpose', 'MemoryOptimized'])
param tier string
param storageGiB int

@description('A standby in another zone.')
param highAvailability bool

@description('Days that backups are kept: a restore goes to any moment in them.')
param backupDays int

@secure()
param password string
param vaultName string
param logsId string

var login = 'clinserve'

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: sku, tier: tier }
  properties: {
    version: '16'
    administratorLogin: login
    administratorLoginPassword: password
    authConfig: { passwordAuth: 'Enabled', activeDirectoryAuth: 'Disabled' }
    storage: { storageSizeGB: storageGiB, autoGrow: 'Enabled' }
    backup: { backupRetentionDays: backupDays, geoRedundantBackup: highAvailability ? 'Enabled' : 'Disabled' }
    highAvailability: { mode: highAvailability ? 'ZoneRedundant' : 'Disabled' }
    network: { publicNetworkAccess: 'Disabled' }
  }
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2024-08-01' = {
  parent: server
  name: 'clinserve'
  properties: { charset: 'UTF8', collation: 'C.UTF-8' }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: server
  properties: {
    workspaceId: logsId
    logs: [{ category: 'PostgreSQLLogs', enabled: true }]
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource kept 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  // checkov:skip=CKV_AZURE_41: a password that expires takes the service down; it is changed by hand, README.md
  parent: vault
  name: 'clinserve-database-password'
  properties: { value: password, contentType: 'text/plain' }
}

output id string = server.id
output url string = 'postgresql+psycopg://${login}@${server.properties.fullyQualifiedDomainName}/${database.name}?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt'
