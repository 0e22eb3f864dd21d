"""ProxylessNAS for Keras and TFLite: the best network for your data on your device.

Importing the package is quick: only modules that need TensorFlow load it. They need Keras with TensorFlow as its
backend, so a backend that was chosen for another project is replaced, unless Keras is loaded already.
"""

import os
import sys

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.1.0"
