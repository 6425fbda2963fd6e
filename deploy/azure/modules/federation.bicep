// The chart's service account signs in as the workload identity: no secret is kept anywhere.
param identityName string
param issuer string

@description('Namespace of the chart\'s release.')
param namespace string

@description('Its service account.')
param serviceAccount string

resource workload 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource credential 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = {
  parent: workload
  name: '${namespace}-${serviceAccount}'
  properties: {
    issuer: issuer
    subject: 'system:serviceaccount:${namespace}:${serviceAccount}'
    audiences: ['api://AzureADTokenExchange']
  }
}
