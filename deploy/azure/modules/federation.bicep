// Service accounts of the chart sign in as one identity: no secret is kept anywhere.
param identityName string
param issuer string

@description('Namespace of the chart\'s release.')
param namespace string

@description('Its service accounts that are this identity.')
param serviceAccounts array

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

@batchSize(1) // Azure takes one at a time for an identity
resource credential 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [
  for serviceAccount in serviceAccounts: {
    parent: identity
    name: '${namespace}-${serviceAccount}'
    properties: {
      issuer: issuer
      subject: 'system:serviceaccount:${namespace}:${serviceAccount}'
      audiences: ['api://AzureADTokenExchange']
    }
  }
]
