"""What a batch survives, and what those who wait for an answer notice of one."""
