"""Says what is in folders of pictures, with NASNet-A."""
