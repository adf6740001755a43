"""Training of NASNet-A: image sets, targets, sampling, batches, and a loop that resumes."""
