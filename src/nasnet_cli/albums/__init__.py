"""What is done with labels: images are found, sorted into folders and tagged."""
