"""The check that a model does nothing but compute."""
