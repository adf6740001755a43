"""Training NASNet-A: pictures in memory, augmentation, and a loop that resumes."""
