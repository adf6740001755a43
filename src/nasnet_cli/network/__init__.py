"""NASNet-A: its cells and sizes as data, one builder, and the sets of layers it builds with."""
