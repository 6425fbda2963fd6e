"""Thin Ray Serve classes and what starts them: the only package that imports ray, and the owner of vLLM's names."""
