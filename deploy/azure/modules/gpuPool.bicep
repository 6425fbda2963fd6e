// A pool of GPU nodes that starts at none and goes back to none. One module call for each kind of GPU.
param clusterName string

@description('At most 12 lower-case letters and digits.')
@maxLength(12)
param name string

@description('Such as Standard_NC40ads_H100_v5. Ask for its quota first.')
param vmSize string

@description('Nodes that are kept: 1 for a model that must answer at once.')
param minimum int
param maximum int
param subnetId string
param zones array

@description('Slice each GPU: MIG1g, MIG2g, MIG3g, MIG4g or MIG7g. Empty: whole GPUs.')
param migProfile string = ''

@description('Must hold the image (some 15 GB unpacked twice over) and the weights that a node keeps.')
param osDiskGiB int = 512

resource cluster 'Microsoft.ContainerService/managedClusters@2025-05-01' existing = {
  name: clusterName
}

resource pool 'Microsoft.ContainerService/managedClusters/agentPools@2025-05-01' = {
  parent: cluster
  name: name
  properties: {
    mode: 'User'
    type: 'VirtualMachineScaleSets'
    vmSize: vmSize
    osType: 'Linux'
    osSKU: 'Ubuntu'
    osDiskType: 'Ephemeral'
    osDiskSizeGB: osDiskGiB
    enableEncryptionAtHost: true
    enableNodePublicIP: false
    enableAutoScaling: true
    count: minimum
    minCount: minimum
    maxCount: maximum
    maxPods: 60
    availabilityZones: zones
    vnetSubnetID: subnetId
    scaleDownMode: 'Delete'
    gpuInstanceProfile: empty(migProfile) ? null : migProfile
    // The chart tolerates this taint; AKS adds no toleration by itself.
    nodeTaints: ['sku=gpu:NoSchedule']
    nodeLabels: { 'clinserve.io/pool': name }
    upgradeSettings: { maxSurge: '1', drainTimeoutInMinutes: 65 }
  }
}

output name string = pool.name
