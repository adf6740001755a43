"""Training of NASNet-A: picture sets, targets, sampling, batches, and a loop that resumes."""
