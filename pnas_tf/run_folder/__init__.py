"""The folder of a run: its files by name, the right to write to it, and the versions that made it."""

from pnas_tf.run_folder.folder import RunFolder

__all__ = ["RunFolder"]
