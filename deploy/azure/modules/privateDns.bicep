// The names of what has a private endpoint, answered inside the network.
param networkId string
param tags object

@description('Zone names, such as privatelink.vaultcore.azure.net.')
param zones array

resource zone 'Microsoft.Network/privateDnsZones@2020-06-01' = [
  for name in zones: {
    name: name
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [
  for (name, i) in zones: {
    parent: zone[i]
    name: 'network'
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: networkId } }
  }
]
