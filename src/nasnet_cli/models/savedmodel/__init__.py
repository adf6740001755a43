"""TensorFlow's SavedModel format, read without TensorFlow."""
