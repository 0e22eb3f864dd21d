"""The folder of a run: its files by name, who may write it, and what it was made with."""

from pnas_tf.run_folder.folder import RunFolder

__all__ = ["RunFolder"]
