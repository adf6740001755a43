"""Use of labels: images are found, sorted into folders and tagged."""
