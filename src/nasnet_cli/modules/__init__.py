"""What a model is on disk: found, opened, described, written and checked."""
