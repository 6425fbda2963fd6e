"""What the `clinserve` command does, a file for each verb. Terminal only: no rules, no HTTP handlers."""
