"""Which replica gets a request: by what its KV cache is likely to hold, and by how busy it is. No HTTP, no Ray."""
