"""Content filters: guards look at prompts and answers, GuardedEngine puts them around an engine."""
