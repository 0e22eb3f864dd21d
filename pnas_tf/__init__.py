"""ProxylessNAS for Keras and TFLite: the best network for your data on your device.

Importing the package costs nothing: TensorFlow is loaded by the modules that need it.
"""




__version__ = "0.1.0"
