using 'main.bicep'

param name = 'clinserve'
param tags = { application: 'clinserve', environment: 'prod', 'data-classification': 'patient' }
param adminGroupIds = ['00000000-0000-0000-0000-000000000000'] // your group's object id
param gpuPools = [
  { name: 'h100', vmSize: 'Standard_NC40ads_H100_v5', minimum: 1, maximum: 4, migProfile: '' }
]
param postgresPassword = readEnvironmentVariable('CLINSERVE_DATABASE_PASSWORD')
param budget = 25000
param budgetStart = '2027-01-01'
param budgetEmails = ['clinserve@example.org'] // who is told
