using 'main.bicep'

// One of each, without standbys; a GPU node only while a model is asked for something.
param name = 'clindev'
param tags = { application: 'clinserve', environment: 'dev' }
param adminGroupIds = ['00000000-0000-0000-0000-000000000000'] // your group's object id
param clusterTier = 'Free'
param systemVmSize = 'Standard_D2ads_v5'
param workVmSize = 'Standard_D4ads_v5'
param workMaximum = 3
param gpuPools = [
  { name: 'a10', vmSize: 'Standard_NV36ads_A10_v5', minimum: 0, maximum: 1, migProfile: '' }
]
param postgresSku = 'Standard_B2s'
param postgresTier = 'Burstable'
param postgresGiB = 32
param postgresBackupDays = 7
param postgresPassword = readEnvironmentVariable('CLINSERVE_DATABASE_PASSWORD')
param redisSku = 'Balanced_B0'
param highAvailability = false
param logDays = 30
param budget = 1500
param budgetStart = '2027-01-01'
param budgetEmails = ['clinserve@example.org'] // who is told
