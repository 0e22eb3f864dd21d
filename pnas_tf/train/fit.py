"""Trains a network with `model.fit` (paper section 4.2). An interrupted training continues where it stopped."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import data as data_lib
from pnas_tf import files, network, terminal
from pnas_tf.data import Data, mixing
from pnas_tf.data.parts import Changes
from pnas_tf.errors import InputError
from pnas_tf.network import build
from pnas_tf.network.criterion import Teacher, features_of
from pnas_tf.network.evaluate import Score, cross_entropy, recalibrate
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import memory
from pnas_tf.space.arch import Arch
from pnas_tf.train import first_classifier, initial_weights, known_images, linear_maps, mistakes, optimizers
from pnas_tf.train.events import Events
from pnas_tf.train.non_finite import NonFinite, StopOnNonFinite
from pnas_tf.train.progress import Progress
from pnas_tf.train.recipe import FROZEN, LEAST_BATCH, NONE, Recipe
from pnas_tf.train.state import CONTENTS, TRAINED_ON, TrainingState
from pnas_tf.train.student import Distillation, Student, kept_steps, lessons, read_teacher

# Function from the number of steps done to the batches of training and of held-out images.
Batches = Callable[[int], tuple[tf.data.Dataset, tf.data.Dataset]]

# Batches that set the batch norm statistics of a network of smaller blocks than the pretrained one, or of averages.
_RECALIBRATION = 20
# Batches, and images of each, to which linear maps are fitted.
_MAPPED, _MAPPED_BATCH = 16, 50


def fit(arch: Arch, data: Data, recipe: Recipe, folder: RunFolder, record: dict[str, Any] | None = None, *,
        overwrite: bool = False) -> dict[str, Any]:
    """Trains a network, and writes model.keras, train.json and mistakes.json.

    Args:
        arch: Arch that fits the data.
        data: Data set, from `data.load`.
        recipe: Settings of the training.
        folder: Folder for the results. It also has the inherited weights, if the recipe starts from them.
        record: Further entries of train.json, such as the command.
        overwrite: Whether to replace the network of a training with other settings.

    Returns:
        The facts of train.json.

    Raises:
        NonFinite: If the training diverges. An earlier model.keras stays, and the last good epoch is kept.
        InputError: If the initial weights or the state of an interrupted training do not fit, or a file cannot be
            written.
    """
    recipe = recipe.settled(arch, data.train.size, folder)
    _check(arch, data, recipe)
    keras.utils.set_random_seed(recipe.seed)
    dropout = recipe.dropout_of(arch.space.name)
    start = initial_weights.build(arch, recipe.init_weights, folder, teacher=recipe.teacher, dropout=dropout,
                                  drop_path=recipe.drop_path, precision=recipe.precision)
    model = start.model
    teacher = None if recipe.teacher == NONE else read_teacher(recipe.teacher, arch.space)
    how_taught = _distillation(model, teacher, recipe, data_lib.class_weights(data.train, recipe.class_weights))
    learner = Student(model, teacher, how_taught) if teacher else model
    epochs, steps = _length(recipe, data.train.steps_per_epoch(recipe.batch_size))
    facts: dict[str, Any] = {"params": network.count_params(model), "macs": network.count_macs(model), "epochs": epochs}
    terminal.say(f"Training {arch.space.name}: {facts['params']:,} parameters, {facts['macs']:,} MACs, "
                 f"{data.train.size:,} images, {epochs} epoch{'s' * (epochs != 1)} of {steps} steps.")
    how = {"init": recipe.init_weights, "dropout": dropout,
           **{name: getattr(recipe, name) for name in ("colour_jitter", "drop_path", "cutout", "precision", "ema",
                                                       "mixup", "cutmix", "randaugment", "crop_area", "batch_norm",
                                                       "teacher", "distill", "temperature", "distill_features")}}
    kept = kept_steps(data.image_shape, recipe.batch_size, data.train.steps_per_epoch(recipe.batch_size),
                      teacher.num_features if how_taught.features else 0) if teacher else 0
    settings = _settings(arch, data, recipe) | how
    state = TrainingState(folder, {"epochs": epochs, "steps": steps, "kept": kept, **settings}, overwrite=overwrite)
    with data_lib.naming_broken_images(data):
        _fit_to_images(start, data, recipe, state.epochs_done)
        _freeze_batch_norm(model, recipe.batch_norm == FROZEN)
        _compile(learner, recipe, steps * epochs, how_taught.class_weights)
        images = functools.partial(_batches, data, recipe, teacher, kept, bool(how_taught.features))
        _train(learner, images, recipe, state, folder.training_logs, epochs, steps)
        score, wrong = _tested(model, data, recipe)
    _check_finite(score, folder)
    facts |= {"dataset": data.name, "seed": recipe.seed, **how, "seconds": round(state.seconds, 1),
              "test_images": score.images, "test_loss": score.loss, "test_accuracy": score.accuracy,
              TRAINED_ON: _looks(data), "history": state.history, "settings": state.settings, **(record or {})}
    _freeze_batch_norm(model, False)
    build.save_model(model, folder.model)
    files.write_text(folder.mistakes, json.dumps(wrong) + "\n")
    files.write_text(folder.training_facts, json.dumps(facts, indent=1) + "\n")
    state.remove()
    return facts


def _check(arch: Arch, data: Data, recipe: Recipe) -> None:
    """Raises InputError if the memory is too small, or the test would be on images that are known already."""
    known_images.check(recipe, data)
    if not tf.config.list_physical_devices("GPU"):  # whose memory is another
        memory.check_network(arch, recipe.batch_size)


def _tested(model: keras.Model, data: Data, recipe: Recipe) -> tuple[Score, dict[str, Any]]:
    """The score of a trained network on test images, and its mistakes."""
    if recipe.ema and recipe.batch_norm != FROZEN:  # statistics were those of the weights, not of their averages
        recalibrate(model, data.train.batches(recipe.batch_size, seed=recipe.seed).take(_RECALIBRATION))
    return mistakes.find(model, data.test, data.class_names)


def _looks(data: Data) -> dict[str, Any]:
    """Normalisation and classes of the images, which an export has to repeat."""
    return {"mean": list(map(float, data.mean)), "std": list(map(float, data.std)),
            "class_names": list(data.class_names)}


def _distillation(model: keras.Model, teacher: Teacher | None, recipe: Recipe,
                  class_weights: np.ndarray | None = None) -> Distillation:
    """The teacher's part of the loss. Raises InputError if its features cannot be learned."""
    own = features_of(model)
    if teacher is None or not recipe.distill_features:
        return Distillation(recipe.distill, recipe.temperature, class_weights=class_weights)
    if own is None or own.shape[-1] != teacher.num_features or recipe.batch_size < LEAST_BATCH:
        raise InputError(f"--distill_features={recipe.distill_features:g} needs batches of at least {LEAST_BATCH} "
                         "images and a dense classifier that reads as many features here as in the teacher; got "
                         f"batches of {recipe.batch_size}, {'no' if own is None else own.shape[-1]} features here, and "
                         f"{teacher.num_features or 'no'} in {recipe.teacher}. Give --distill_features=0.")
    return Distillation(recipe.distill, recipe.temperature, recipe.distill_features, class_weights)


def _settings(arch: Arch, data: Data, recipe: Recipe) -> dict[str, Any]:
    """What determines the result of a training, but for its length and what `fit` reports."""
    return {"arch": arch.to_json(), "dataset": data.name, "images": data.train.size,
            CONTENTS: data.fingerprint,
            "rendering": dataclasses.asdict(data.rendering) if data.rendering else None,
            **{name: getattr(recipe, name) for name in ("batch_size", "lr", "momentum", "weight_decay",
                                                        "label_smoothing", "class_weights", "seed", "optimizer")}}


def _check_finite(score: Score, folder: RunFolder) -> None:
    """Raises NonFinite if a trained network answers test images with numbers that are not finite."""
    if not math.isfinite(score.loss):
        raise NonFinite(f"The trained network's loss is {score.loss} on {score.images:,} test images, so "
                        f"{folder.model} is not written. Lower --lr, with --overwrite or another --run_dir.")


def _fit_to_images(start: initial_weights.Start, data: Data, recipe: Recipe, epochs_done: int) -> None:
    """Fits what has a closed form to training images: maps in place of blocks that are left out, and the classifier."""
    if epochs_done:  # whose weights are on the disk
        return
    if start.whole is not None:
        changes = Changes(crop_area=recipe.crop_area)
        crops = data.train.batches(min(_MAPPED_BATCH, data.train.size), augment=True, changes=changes,
                                   seed=recipe.seed)
        maps = linear_maps.fit(start.model, start.whole, [images for images, _ in crops.take(_MAPPED)], recipe.seed)
        if maps:
            terminal.say(f"Blocks that are left out are linear maps, read by {', '.join(each.block for each in maps)}: "
                         f"of what these have learned to read, {np.mean([each.after for each in maps]):.0%} is missing "
                         f"on average, {np.mean([each.before for each in maps]):.0%} without the maps.")
    if not start.has_new_classifier:
        return
    if start.is_cut:  # its layers see other features than in the whole network
        recalibrate(start.model, data.train.batches(recipe.batch_size, seed=recipe.seed).take(_RECALIBRATION),
                    may_lower=False)
    right = first_classifier.start(start.model, data.train, recipe.label_smoothing, recipe.seed,
                                   data_lib.class_weights(data.train, recipe.class_weights))
    # A teacher has learned these images, so that leaving them out of the regression alone says little.
    answers = "" if start.whole is not None else f": {right:.1%} of training images right, left out in turn"
    terminal.say(f"The classifier starts as the best linear one on the pretrained features{answers}.")


def _freeze_batch_norm(model: keras.Model, frozen: bool) -> None:
    """Keeps batch norm at its statistics, scales and offsets in training, or lets it learn."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not frozen


def _length(recipe: Recipe, steps: int) -> tuple[int, int]:
    """Number of epochs, and steps per epoch."""
    if not recipe.max_steps:
        return recipe.epochs, steps
    steps = min(steps, recipe.max_steps)
    return min(recipe.epochs, recipe.max_steps // steps), steps


def _compile(model: keras.Model, recipe: Recipe, steps: int, class_weights: np.ndarray | None) -> None:
    optimizer = optimizers.of_recipe(recipe, steps)
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss=smoothed_loss(recipe.label_smoothing, class_weights),
                  metrics=["accuracy"], jit_compile=False)


def _train(model: keras.Model, batches: Batches, recipe: Recipe, state: TrainingState, logs: str, epochs: int,
           steps: int) -> None:
    """Trains for the epochs that are not done yet, on the batches after the steps that are done."""
    first = state.epochs_done
    if first:
        terminal.say(f"Continuing after epoch {first} of {epochs}.")
        state.restore(model)
    if first < epochs:
        images, held_out = batches(first * steps)
        averages = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []  # validates the averages
        callbacks = [StopOnNonFinite(recipe, epochs, steps), Progress(first, epochs, steps), *averages,
                     Events(logs, fresh=not first), state]
        try:
            model.fit(images, steps_per_epoch=steps, epochs=epochs, initial_epoch=first, verbose=0, shuffle=False,
                      validation_data=held_out, callbacks=callbacks)
        except NonFinite as error:
            raise NonFinite(f"{error} {state.keep_last()} Change that flag, with --overwrite or another --run_dir."
                            ) from None
        except KeyboardInterrupt:
            state.keep_last()
            raise
    model.optimizer.finalize_variable_values(model.trainable_variables)  # with recipe.ema, they become the averages


def _batches(data: Data, recipe: Recipe, teacher: Teacher | None, kept: int, features: bool, done: int
             ) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Batches of training images after the steps that are done, and of held-out images.

    Both have labels int32 [batch], or shares of classes if images are mixed. Training labels may come with the
    teacher's logits and features.
    """
    skip_steps = 0 if kept else done
    changes = Changes(recipe.colour_jitter, recipe.cutout, recipe.randaugment, recipe.crop_area)
    images = data.train.batches(recipe.batch_size, augment=True, changes=changes, seed=recipe.seed,
                                skip_steps=skip_steps)
    held_out = data.held_out.batches(256)
    if recipe.mixup or recipe.cutmix:
        images = mixing.mixed(images, data.num_classes, mixup=recipe.mixup, cutmix=recipe.cutmix, seed=recipe.seed,
                              skip_steps=skip_steps)
        held_out = held_out.map(lambda images, labels: (images, tf.one_hot(labels, data.num_classes)))
    return (lessons(images, teacher, kept, done, features) if kept and teacher else images), held_out


def smoothed_loss(label_smoothing: float, class_weights: np.ndarray | None = None) -> Callable:
    """Cross-entropy with label smoothing and class weights, as a Keras loss function; labels as for `cross_entropy`."""

    def loss(labels, logits):
        labels = labels if len(labels.shape) == 2 else tf.cast(labels, tf.int32)
        return cross_entropy(labels, logits, label_smoothing, class_weights)

    return loss
