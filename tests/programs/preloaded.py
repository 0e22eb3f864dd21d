"""What the server of `tests/forked.py` imports before it forks: TensorFlow, loaded as commands load it."""

import os

from pnas_tf.cli import start

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
start.load_tensorflow()
