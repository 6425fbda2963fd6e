"""What governance adds to the time to first token: limits, usage and audit, on against off."""
