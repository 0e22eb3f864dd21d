"""Turns a trained Keras model into a `.tflite` that is checked and timed."""
