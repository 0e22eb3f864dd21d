"""What a training says while it runs: a line for each epoch, and on a terminal the steps inside it."""

import time

import keras

from pnas_tf import terminal


class Progress(keras.callbacks.Callback):
    """Says a line after each epoch. On a terminal, another line counts the steps and the seconds left in an epoch.

    The first step is announced, because TensorFlow compiles the network in it, which can take a minute.
    """

    def __init__(self, first: int, epochs: int, steps: int):
        """
        Args:
            first: Number of epochs that are done already.
            epochs: Number of all epochs.
            steps: Number of steps in an epoch.
        """
        super().__init__()
        self._first, self._epochs, self._steps = first, epochs, steps
        self._begin = self._epoch_begin = self._shown = time.monotonic()
        self._where = ""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Announces the first step."""
        terminal.say("Compiling the first step.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the number of the epoch."""
        self._where = f"epoch {epoch + 1}/{self._epochs}"

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Shows the step on a terminal."""
        now, done = time.monotonic(), batch + 1
        if not batch:  # its time includes compilation, and the wait for the first images
            self._epoch_begin = now
        if now - self._shown >= terminal.INTERVAL_SECONDS:
            self._shown = now
            left = (now - self._epoch_begin) / batch * (self._steps - done) if batch else None
            note = f", {terminal.seconds(round(left))} left in it" if left is not None else ""
            terminal.status(f"{self._where}, step {done}/{self._steps}{note}")

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows on a terminal that the held-out images are next."""
        terminal.status(f"{self._where}, held-out images")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Says the line of the epoch."""
        logs, done = logs or {}, epoch + 1
        left = (time.monotonic() - self._begin) / (done - self._first) * (self._epochs - done)
        terminal.status("")
        terminal.say(f"{self._where}, loss {logs['loss']:.3f} acc {logs['accuracy']:.3f}, held-out loss "
                     f"{logs['val_loss']:.3f} acc {logs['val_accuracy']:.3f}, {terminal.seconds(round(left))} left")
