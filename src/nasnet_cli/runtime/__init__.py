"""Runtimes: the libraries that run a model."""
