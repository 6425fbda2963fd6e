"""What the product adds to vLLM: bare vLLM and the full path, measured in turn by the same client in one run."""
