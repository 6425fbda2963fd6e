"""How large a deployment must be: memory, KV cache, concurrency, speed and cost, worked out before a GPU is rented.

Pure arithmetic on a model's config.json: no torch, no vLLM, no HTTP. docs/sizing.md says how far to believe it.
"""
