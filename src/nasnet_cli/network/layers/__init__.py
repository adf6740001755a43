"""The layer sets that the network builder can use."""
