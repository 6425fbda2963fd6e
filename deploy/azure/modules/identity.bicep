// Who acts: the cluster's control plane, clinserve's gateways and jobs, and its engines, which may do less.
param name string
param location string
param tags object
param networkName string

// Network Contributor: the control plane joins nodes and load balancers to the network.
var networkContributor = '4d97b98b-1d4f-4787-a291-c67834d212e7'

resource controlPlane 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-control-plane'
  location: location
  tags: tags
}

resource workload 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-workload'
  location: location
  tags: tags
}

resource engines 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-engines'
  location: location
  tags: tags
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' existing = {
  name: networkName
}

resource joins 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(network.id, controlPlane.id, networkContributor)
  scope: network
  properties: {
    principalId: controlPlane.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', networkContributor)
  }
}

output controlPlaneId string = controlPlane.id
output workloadName string = workload.name
output workloadClientId string = workload.properties.clientId
output workloadPrincipalId string = workload.properties.principalId
output enginesName string = engines.name
output enginesClientId string = engines.properties.clientId
output enginesPrincipalId string = engines.properties.principalId
