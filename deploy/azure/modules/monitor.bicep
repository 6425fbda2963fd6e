// Logs, managed Prometheus, traces, and Grafana over all of it.
param name string
param location string
param tags object

@description('Days that logs are kept.')
param logDays int

@description('Object ids of groups that may edit Grafana\'s dashboards.')
param grafanaAdminGroupIds array

@description('Clinserve\'s identity, which sends traces (telemetry.traces.azure: entra).')
param workloadPrincipalId string

var monitoringDataReader = 'b0d8363b-8ddd-447d-831f-62ca05bff136'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var grafanaAdmin = '22926164-76b3-42b3-bc55-97df8dab3e41'

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${name}-logs'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: logDays
    features: { disableLocalAuth: true }
  }
}

resource traces 'Microsoft.Insights/components@2020-02-02' = {
  name: '${name}-traces'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
    DisableLocalAuth: true
  }
}

resource sendsTraces 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(traces.id, workloadPrincipalId, monitoringMetricsPublisher)
  scope: traces
  properties: {
    principalId: workloadPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

resource prometheus 'Microsoft.Monitor/accounts@2023-04-03' = {
  name: '${name}-prometheus'
  location: location
  tags: tags
}

resource endpoint 'Microsoft.Insights/dataCollectionEndpoints@2023-03-11' = {
  name: '${name}-prometheus'
  location: location
  tags: tags
  kind: 'Linux'
  properties: { networkAcls: { publicNetworkAccess: 'Enabled' } }
}

resource rule 'Microsoft.Insights/dataCollectionRules@2023-03-11' = {
  name: '${name}-prometheus'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    dataCollectionEndpointId: endpoint.id
    dataSources: {
      prometheusForwarder: [{ name: 'prometheus', streams: ['Microsoft-PrometheusMetrics'], labelIncludeFilter: {} }]
    }
    destinations: { monitoringAccounts: [{ name: 'workspace', accountResourceId: prometheus.id }] }
    dataFlows: [{ streams: ['Microsoft-PrometheusMetrics'], destinations: ['workspace'] }]
  }
}

resource grafana 'Microsoft.Dashboard/grafana@2023-09-01' = {
  name: take('${name}-grafana', 23)
  location: location
  tags: tags
  sku: { name: 'Standard' }
  identity: { type: 'SystemAssigned' }
  properties: {
    apiKey: 'Disabled'
    deterministicOutboundIP: 'Disabled'
    publicNetworkAccess: 'Enabled' // behind Entra ID; the browser of whoever looks is not in this network
    zoneRedundancy: 'Disabled'
    grafanaIntegrations: { azureMonitorWorkspaceIntegrations: [{ azureMonitorWorkspaceResourceId: prometheus.id }] }
  }
}

resource readsMetrics 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(prometheus.id, grafana.id, monitoringDataReader)
  scope: prometheus
  properties: {
    principalId: grafana.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringDataReader)
  }
}

resource editsDashboards 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for group in grafanaAdminGroupIds: {
    name: guid(grafana.id, group, grafanaAdmin)
    scope: grafana
    properties: {
      principalId: group
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grafanaAdmin)
    }
  }
]

output logsId string = logs.id
output prometheusRuleId string = rule.id
output prometheusEndpointId string = endpoint.id
output grafanaUrl string = grafana.properties.endpoint
output tracesConnectionString string = traces.properties.ConnectionString
