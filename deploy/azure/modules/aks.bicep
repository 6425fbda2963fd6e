// The cluster: private, without local accounts, with a pool for the system and one for gateways and Ray's head.
param name string
param location string
param tags object
param kubernetesVersion string

@description('Free has no uptime promise; Standard has.')
@allowed(['Free', 'Standard', 'Premium'])
param tier string

@description('Object ids of groups that administer the cluster.')
param adminGroupIds array
param controlPlaneIdentityId string
param subnetId string
param logsId string
param prometheusRuleId string
param prometheusEndpointId string

@description('Of the pool for the system. Its temporary disk must hold the operating system\'s.')
param systemVmSize string

@description('Of the pool for gateways, Ray\'s head and KubeRay\'s operator.')
param workVmSize string

@description('Nodes of that pool at most.')
param workMaximum int

param zones array

resource cluster 'Microsoft.ContainerService/managedClusters@2025-05-01' = {
  // checkov:skip=CKV_AZURE_6: the API server has no public address, so there are no ranges to admit
  // checkov:skip=CKV_AZURE_8: AKS has no dashboard add-on any more that could be switched off
  // checkov:skip=CKV_AZURE_172: rotation is on; an add-on's configuration is text, and the policy looks for a boolean
  name: name
  location: location
  tags: tags
  sku: { name: 'Base', tier: tier }
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${controlPlaneIdentityId}': {} } }
  properties: {
    kubernetesVersion: kubernetesVersion
    dnsPrefix: name
    nodeResourceGroup: '${resourceGroup().name}-nodes'
    enableRBAC: true
    disableLocalAccounts: true
    aadProfile: { managed: true, enableAzureRBAC: true, adminGroupObjectIDs: adminGroupIds }
    apiServerAccessProfile: {
      enablePrivateCluster: true
      enablePrivateClusterPublicFQDN: false
      privateDNSZone: 'system'
      disableRunCommand: true
    }
    oidcIssuerProfile: { enabled: true }
    securityProfile: {
      workloadIdentity: { enabled: true }
      imageCleaner: { enabled: true, intervalHours: 168 }
    }
    autoUpgradeProfile: { upgradeChannel: 'patch', nodeOSUpgradeChannel: 'NodeImage' }
    addonProfiles: {
      azureKeyvaultSecretsProvider: {
        enabled: true
        config: { enableSecretRotation: 'true', rotationPollInterval: '2m' }
      }
      azurepolicy: { enabled: true }
      omsagent: { enabled: true, config: { logAnalyticsWorkspaceResourceID: logsId, useAADAuth: 'true' } }
    }
    azureMonitorProfile: { metrics: { enabled: true, kubeStateMetrics: {} } }
    storageProfile: {
      blobCSIDriver: { enabled: true }
      diskCSIDriver: { enabled: true }
      fileCSIDriver: { enabled: false }
      snapshotController: { enabled: false }
    }
    // A node goes when it had nothing to do for so long. Pulling a GPU image and loading weights takes minutes.
    autoScalerProfile: {
      'scale-down-unneeded-time': '20m'
      'scale-down-delay-after-add': '20m'
      'max-graceful-termination-sec': '3700'
      expander: 'least-waste'
    }
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay'
      networkDataplane: 'cilium'
      networkPolicy: 'cilium'
      loadBalancerSku: 'standard'
      outboundType: 'userAssignedNATGateway'
      podCidr: '10.244.0.0/16'
      serviceCidr: '10.245.0.0/16'
      dnsServiceIP: '10.245.0.10'
    }
    agentPoolProfiles: [
      {
        name: 'system'
        mode: 'System'
        type: 'VirtualMachineScaleSets'
        vmSize: systemVmSize
        osType: 'Linux'
        osSKU: 'AzureLinux'
        osDiskType: 'Ephemeral'
        enableEncryptionAtHost: true
        enableNodePublicIP: false
        enableAutoScaling: true
        count: 2
        minCount: 2
        maxCount: 4
        maxPods: 110
        availabilityZones: zones
        vnetSubnetID: subnetId
        nodeTaints: ['CriticalAddonsOnly=true:NoSchedule']
        upgradeSettings: { maxSurge: '33%' }
      }
      {
        name: 'work'
        mode: 'User'
        type: 'VirtualMachineScaleSets'
        vmSize: workVmSize
        osType: 'Linux'
        osSKU: 'AzureLinux'
        osDiskType: 'Ephemeral'
        enableEncryptionAtHost: true
        enableNodePublicIP: false
        enableAutoScaling: true
        count: 2
        minCount: 2
        maxCount: workMaximum
        maxPods: 110
        availabilityZones: zones
        vnetSubnetID: subnetId
        upgradeSettings: { maxSurge: '33%', drainTimeoutInMinutes: 65 } // streams run for an hour at most
      }
    ]
  }
}

resource scrape 'Microsoft.Insights/dataCollectionRuleAssociations@2023-03-11' = {
  name: 'prometheus'
  scope: cluster
  properties: { dataCollectionRuleId: prometheusRuleId }
}

resource configuration 'Microsoft.Insights/dataCollectionRuleAssociations@2023-03-11' = {
  name: 'configurationAccessEndpoint' // the only name that Azure takes here
  scope: cluster
  properties: { dataCollectionEndpointId: prometheusEndpointId }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: cluster
  properties: {
    workspaceId: logsId
    logs: [
      { category: 'kube-audit-admin', enabled: true }
      { category: 'guard', enabled: true }
      { category: 'cluster-autoscaler', enabled: true }
    ]
  }
}

output name string = cluster.name
output issuer string = cluster.properties.oidcIssuerProfile.issuerURL
output kubeletPrincipalId string = cluster.properties.identityProfile.kubeletidentity.objectId
