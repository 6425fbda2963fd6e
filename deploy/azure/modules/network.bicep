// The virtual network: nodes leave through one NAT gateway, private endpoints have a subnet of their own.
param name string
param location string
param tags object

@description('Of the whole network; must not overlap with what it is peered to.')
param addressPrefix string
param nodesPrefix string
param endpointsPrefix string

resource outbound 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: '${name}-outbound'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource nat 'Microsoft.Network/natGateways@2024-05-01' = {
  name: '${name}-nat'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: {
    publicIpAddresses: [{ id: outbound.id }]
    idleTimeoutInMinutes: 10
  }
}

// Empty on purpose: the platform's own rules admit the network itself and its load balancers, and nothing from outside.
resource rules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: '${name}-rules'
  location: location
  tags: tags
  properties: { securityRules: [] }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: 'nodes'
        properties: {
          addressPrefix: nodesPrefix
          natGateway: { id: nat.id }
          networkSecurityGroup: { id: rules.id }
          defaultOutboundAccess: false
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointsPrefix
          networkSecurityGroup: { id: rules.id }
          privateEndpointNetworkPolicies: 'Enabled'
          defaultOutboundAccess: false
        }
      }
    ]
  }
}

output id string = network.id
output name string = network.name
output nodesSubnetId string = network.properties.subnets[0].id
output endpointsSubnetId string = network.properties.subnets[1].id
