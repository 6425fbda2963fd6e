"""How many replicas a deployment should have: pure rules on what its replicas report. No Ray, no HTTP, no settings."""
