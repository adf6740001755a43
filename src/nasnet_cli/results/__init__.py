"""What a run finds out about each input, and the files that hold it."""
