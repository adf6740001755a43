"""Jobs over many images: their specification, running and resuming them, and shards."""
