"""Weights of models: where they come from, what they may consist of, and that they are the ones that were pinned.

Knows neither settings nor Ray nor HTTP. blobs.py owns Azure Storage here, hub.py huggingface_hub.
"""
