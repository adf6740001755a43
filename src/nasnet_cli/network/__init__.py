"""What NASNet-A is: sizes and cells as data, one builder, and the layer sets that it speaks to."""
