"""What a JSON schema may cost an engine: rules on the schema, and its compilation aside, where it can be killed."""
