"""A job cut into shards: manifest, markers, update and merge."""
