"""clinserve: an Azure-style model-as-a-service inference server for clinical foundation models."""

__version__ = "0.1.0"
