"""What is searched, as text and data: ops, blocks, spaces and archs. Needs no TensorFlow."""
