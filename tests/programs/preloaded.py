"""What the server of `tests/forked.py` imports before it forks: TensorFlow, loaded as commands load it."""

from pnas_tf.cli import start

start.set_environment()
start.load_tensorflow()
