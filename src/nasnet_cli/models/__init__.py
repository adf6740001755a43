"""Models on disk: finding, reading, checking, converting and exporting them."""
