"""The commands, their shared options, and the one place that prints."""
