"""What a training keeps in its run folder after each epoch, so that the same command goes on where it stopped."""

import json
import os
import shutil
import time
from typing import Any

import keras
import numpy as np

from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.network import build
from pnas_tf.run_folder import RunFolder

FOLDER = "training"


class TrainingState(keras.callbacks.Callback):
    """Keeps weights, optimizer and history.

    `history` holds the logs of the epochs that are done, by name; `seconds` is what all of the training has taken.

    One file, state.json, says how far it is: it is replaced when the weights of an epoch are whole on the disk.
    """

    def __init__(self, run_dir: str, settings: dict[str, Any]):
        """Takes up what is in the folder.

        Args:
            run_dir: folder of the run.
            settings: all that decides the training, JSON values.

        Raises:
            InputError: if a training with other settings was interrupted here, or its record is damaged.
        """
        super().__init__()
        self._folder, self._settings = RunFolder(run_dir).file(FOLDER), json.loads(json.dumps(settings))
        self.epochs_done, self.history, self._seeds = 0, {}, []
        self._begin = time.monotonic()
        file = os.path.join(self._folder, "state.json")
        if os.path.exists(file):
            state = files.read_json(file)
            kinds = {"settings": dict, "epochs_done": int, "history": dict, "seeds": list, "seconds": float}
            if not isinstance(state, dict) or not all(isinstance(state.get(name), kind)
                                                      for name, kind in kinds.items()):
                raise InputError(f"{file}: not the state of a training. Remove {self._folder} to train anew.")
            changed = [name for name, value in self._settings.items() if state["settings"].get(name) != value]
            if changed:
                raise InputError(f"{self._folder} holds an interrupted training with other settings "
                                 f"({', '.join(changed)}). Give the same flags to go on with it, remove the folder, or "
                                 "use another --run_dir.")
            self.epochs_done, self.history, self._seeds = state["epochs_done"], state["history"], state["seeds"]
            self._begin -= state["seconds"]

    @property
    def seconds(self) -> float:
        """Up to now, those before an interruption included."""
        return time.monotonic() - self._begin

    def restore(self, model: keras.Model) -> None:
        """Sets weights and optimizer to those of the last epoch that is done, if there is one.

        Raises:
            InputError: if their file is missing or damaged.
        """
        if self.epochs_done:
            model.optimizer.build(model.trainable_variables)
            file = self._weights(self.epochs_done)
            try:
                model.load_weights(file)
                for variable, value in zip(_seed_states(model), self._seeds, strict=True):
                    variable.assign(value)
            except (ValueError, TypeError, OSError, KeyError):
                raise InputError(f"{file} is missing or damaged. Remove {self._folder} to train anew.") from None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the state."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        done, before = self._weights(epoch + 1), self._weights(epoch)
        build.save_weights(self.model, done)
        files.write_text(os.path.join(self._folder, "state.json"), json.dumps(
            {"epochs_done": epoch + 1, "seconds": self.seconds, "history": self.history, "settings": self._settings,
             "seeds": [np.asarray(variable).tolist() for variable in _seed_states(self.model)]}) + "\n")
        if os.path.exists(before):
            os.unlink(before)
        self.epochs_done = epoch + 1

    def remove(self) -> None:
        """Takes it away when the results are written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _weights(self, epochs_done):
        return os.path.join(self._folder, f"epoch_{epochs_done}.weights.h5")


def _seed_states(model):
    """Where the random numbers of dropout are, which a file of weights leaves out."""
    return [layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")]
