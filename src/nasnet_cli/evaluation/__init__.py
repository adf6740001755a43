"""Evaluation: labels of images compared with the classes that the images are known to show."""
