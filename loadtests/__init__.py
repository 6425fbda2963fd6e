"""Load tests: they meet the server as any client does, over HTTP, and import nothing from `serving`."""
