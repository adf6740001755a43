"""Jobs over many pictures: what is to be done, resuming it, cutting it into shards."""
