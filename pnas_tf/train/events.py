"""The epochs of a training for TensorBoard."""

import shutil

import keras
import tensorflow as tf

from pnas_tf.errors import InputError


class Events(keras.callbacks.Callback):
    """Writes loss, accuracy and learning rate of each epoch. keras.callbacks.TensorBoard needs the package tensorboard.

    Training and held-out images are two runs, `train` and `validation`, as Keras' callback has them.
    """

    def __init__(self, folder: str, *, fresh: bool):
        """
        Args:
            folder: Folder of the events.
            fresh: Whether the training starts from its first epoch, so that events of an earlier one are removed.
        """
        super().__init__()
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the events of an epoch. Raises InputError if the folder cannot be written."""
        values = {"learning_rate": self.model.optimizer.learning_rate, **(logs or {})}
        try:
            for name, value in values.items():
                run = "validation" if name.startswith("val_") else "train"
                if run not in self._writers:
                    self._writers[run] = tf.summary.create_file_writer(f"{self._folder}/{run}")
                with self._writers[run].as_default(step=epoch + 1):
                    tf.summary.write(f"epoch_{name.removeprefix('val_')}", tf.cast(value, tf.float32), metadata=_SCALAR)
            for writer in self._writers.values():
                writer.flush()
        except tf.errors.OpError as error:
            raise InputError(f"{self._folder}: cannot be written ({' '.join(str(error).split())[:150]}). Free some "
                             "space and run the same command again.") from None


_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
