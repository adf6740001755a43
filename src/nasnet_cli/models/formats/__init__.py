"""One module a model format."""
