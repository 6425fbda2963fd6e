"""Metrics and logs: a leaf, it imports nothing of ours. No content ever: names, counts, times and outcomes only."""
