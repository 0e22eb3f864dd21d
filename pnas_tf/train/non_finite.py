"""Stops a training whose loss is not a finite number, as a search stops."""

import math

import keras

from pnas_tf.errors import InputError
from pnas_tf.train.recipe import Recipe

NAMES = {"loss": "the loss", "val_loss": "the held-out loss"}


class NonFinite(InputError):
    """A loss of a training is not a finite number: its weights have diverged."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Checks the loss of each step, and that of the held-out images after each epoch.

    This causes no further wait for an accelerator: Keras has already fetched the step's logs.
    """

    def __init__(self, recipe: Recipe, epochs: int, steps: int):
        """
        Args:
            recipe: Settings of the training.
            epochs: Number of all epochs.
            steps: Number of steps in an epoch.
        """
        super().__init__()
        self._recipe, self._epochs, self._steps, self._epoch = recipe, epochs, steps, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Raises NonFinite if the mean loss of the epoch is not finite; a single such step makes it so."""
        step = self._epoch * self._steps + batch + 1
        self._check(logs, f"Step {step:,} of {self._epochs * self._steps:,} (epoch {self._epoch + 1})", step == 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Raises NonFinite if the loss of the held-out images is not finite: the last step broke the weights."""
        self._check(logs, f"Epoch {epoch + 1} of {self._epochs}", is_first=False)

    def _check(self, logs: dict[str, float] | None, where: str, is_first: bool) -> None:
        for name, text in NAMES.items():
            value = float((logs or {}).get(name, 0.0))
            if not math.isfinite(value):
                raise NonFinite(f"{where}: {text} is {value}. Likely cause: {self._cause(is_first)}.")

    def _cause(self, is_first: bool) -> str:
        recipe = self._recipe
        if is_first:  # no weight has changed yet, and initial weights are finite
            return "the teacher's answers are not finite, or numbers overflow in --precision=mixed_float16"
        overflow = ("; or an overflow of float16, which --precision=mixed_bfloat16 does not have"
                    if recipe.precision == "mixed_float16" else "")
        return (f"weights diverged, lower --lr (now {recipe.lr:g}) or --weight_decay (now {recipe.weight_decay:g})"
                f"{overflow}")
