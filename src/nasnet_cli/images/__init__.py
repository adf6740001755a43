"""From a path to an array of pixels: finding, reading, decoding and preprocessing images."""
