// Tells when the month's money is going. It stops nothing: limits of tenants and the pools' maxima do.
param name string

@description('A month, in the currency of the subscription.')
param amount int

@description('First day of a month, not in the past: 2027-01-01.')
param startDate string
param emails array

resource budget 'Microsoft.Consumption/budgets@2023-11-01' = {
  name: name
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: { startDate: startDate }
    notifications: {
      half: { enabled: true, operator: 'GreaterThan', threshold: 50, thresholdType: 'Actual', contactEmails: emails }
      spent: { enabled: true, operator: 'GreaterThan', threshold: 90, thresholdType: 'Actual', contactEmails: emails }
      ahead: { enabled: true, operator: 'GreaterThan', threshold: 100, thresholdType: 'Forecasted', contactEmails: emails }
    }
  }
}
