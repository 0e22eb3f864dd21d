"""The state of a training, kept in its run folder, so that the same command can continue it."""

import json
import math
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

# Weights of some hundred layers take half a second to write, as long as an epoch of some hundred images.
SAVE_SECONDS = 15.0
# Name of the setting that identifies the images. Records of earlier versions lack it.
CONTENTS = "contents of the images"
# Name of the entry of train.json with the normalisation and the classes of the images: mean, std, class_names.
TRAINED_ON = "trained_on"


class TrainingState(keras.callbacks.Callback):
    """Keeps weights, optimizer and history on the disk.

    The file state.json records the progress. It is replaced when all weights of an epoch are on the disk. Epochs that
    end less than `SAVE_SECONDS` after the last that was kept are not kept, but for the last of all.

    Attributes:
        epochs_done: Number of epochs whose state is on the disk.
        history: Logs of all epochs, by name.
    """

    def __init__(self, folder: RunFolder, settings: dict[str, Any], *, overwrite: bool = False):
        """Reads the state in the folder, if there is one.

        Args:
            folder: Folder of the run.
            settings: Everything that determines the result of the training, as JSON values.
            overwrite: Whether to replace the result of a training with other settings.

        Raises:
            InputError: If a training with other settings was interrupted or finished here, or a record is damaged.
        """
        super().__init__()
        self._folder, self._settings = folder.training, json.loads(json.dumps(settings))
        self.epochs_done, self.history, self._seeds = 0, {}, []
        self._begin, self._saved = time.monotonic(), -math.inf
        # The last epoch that is not on the disk: its number, and the values of all variables at its end.
        self._unsaved: tuple[int, list[np.ndarray]] | None = None
        path = self._state_file
        if os.path.exists(path):
            state = files.read_json(path)
            kinds = {"settings": dict, "epochs_done": int, "history": dict, "seeds": list, "seconds": float}
            if not isinstance(state, dict) or not all(isinstance(state.get(name), kind)
                                                      for name, kind in kinds.items()):
                raise InputError(f"{path}: not the state of a training. Remove {self._folder} to train from the start.")
            changed = self._changed(state["settings"])
            if changed and not overwrite:
                raise InputError(f"{self._folder} holds an interrupted training with other settings "
                                 f"({', '.join(changed)}). Give the same flags to continue it, --overwrite to replace "
                                 "it, or use another --run_dir.")
            if changed:
                self.remove()
                return
            self.epochs_done, self.history, self._seeds = state["epochs_done"], state["history"], state["seeds"]
            self._begin -= state["seconds"]
        elif not overwrite and os.path.exists(folder.model):
            self._check_finished(folder)

    def _changed(self, settings: Any) -> list[str]:
        """Names of the settings that differ from those of another training."""
        before = {CONTENTS: self._settings.get(CONTENTS), **settings} if isinstance(settings, dict) else {}
        return [name for name, value in self._settings.items() if before.get(name) != value]

    def _check_finished(self, folder: RunFolder) -> None:
        """Raises InputError if the folder's model is not the result of these settings."""
        facts = files.read_json(folder.training_facts) if os.path.exists(folder.training_facts) else None
        settings = facts.get("settings") if isinstance(facts, dict) else None
        if changed := self._changed(settings):
            how = f"was trained with other settings ({', '.join(changed)})" if settings else \
                "is not known to be trained with these settings"
            raise InputError(f"{folder.model} {how}. Use another --run_dir, or --overwrite to replace it.")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the result of the training, as JSON values."""
        return self._settings

    @property
    def seconds(self) -> float:
        """Seconds that the training has taken so far, including the time before an interruption."""
        return time.monotonic() - self._begin

    def restore(self, model: keras.Model) -> None:
        """Sets weights and optimizer to those of the last epoch that is done, if there is one.

        Raises:
            InputError: If their file is missing or damaged.
        """
        if self.epochs_done:
            model.optimizer.build(model.trainable_variables)
            path = self._weights(self.epochs_done)
            try:
                model.load_weights(path)
                for variable, value in zip(_seed_states(model), self._seeds, strict=True):
                    variable.assign(value)
            except (ValueError, TypeError, OSError, KeyError):
                raise InputError(f"{path} is missing or damaged. Remove {self._folder} to train from the start."
                                 ) from None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the state if it is due."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        is_last = epoch + 1 == self.params.get("epochs")
        if is_last or time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save(epoch + 1)
        else:
            self._unsaved = epoch + 1, [np.array(variable) for variable in self._variables()]

    def keep_last(self) -> str:
        """Writes the last complete epoch if it is not on the disk yet, and sets the network back to it for this.

        Returns:
            A sentence for the user about what is kept.
        """
        if self._unsaved:
            epochs_done, values = self._unsaved
            for variable, value in zip(self._variables(), values, strict=True):
                variable.assign(value)
            self._save(epochs_done)
        if not self.epochs_done:
            return "No epoch was complete."
        return f"The state after epoch {self.epochs_done} is kept in {self._folder}."

    def _variables(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _save(self, epochs_done: int) -> None:
        weights, previous_weights = self._weights(epochs_done), self._weights(self.epochs_done)
        build.save_weights(self.model, weights)
        files.write_text(self._state_file, json.dumps(
            {"epochs_done": epochs_done, "seconds": self.seconds, "history": self.history, "settings": self._settings,
             "seeds": [np.asarray(variable).tolist() for variable in _seed_states(self.model)]}) + "\n")
        if os.path.exists(previous_weights):
            os.unlink(previous_weights)
        self.epochs_done, self._saved, self._unsaved = epochs_done, time.monotonic(), None

    def remove(self) -> None:
        """Removes the state, once the results are written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _state_file(self) -> str:
        return os.path.join(self._folder, "state.json")

    def _weights(self, epochs_done: int) -> str:
        return os.path.join(self._folder, f"epoch_{epochs_done}.weights.h5")


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    """States of dropout's random number generators, which a file of weights does not contain."""
    return [layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")]
