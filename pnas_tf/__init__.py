"""ProxylessNAS for Keras and TFLite: the best network for your data on your device.

Importing the package is quick: only modules that need TensorFlow load it.
"""

__version__ = "0.1.0"
