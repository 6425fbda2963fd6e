"""What each way to serve a model adds to the engine: peers measured in turn by the same client in one run."""
