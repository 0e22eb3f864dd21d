"""Trains a found network (or a published one) with model.fit.

    python -m pnas_tf.train --run_dir=runs/quickstart
    python -m pnas_tf.train --arch=proxyless_mobile --dataset=folder:photos --run_dir=runs/photos
    python -m pnas_tf.train --flagfile=train.flags --run_dir=runs/mobile        # the paper's recipe
    python -m pnas_tf.train --arch=proxyless_mobile --init_weights=runs/pretrained/model.keras --epochs=20 --lr=0.01 \
        --dataset=folder:photos --run_dir=runs/photos                           # fine-tuning

Writes model.keras (stock Keras layers: it loads without this package) and train.json into --run_dir. The same command
goes on with a training that was interrupted, after its last whole epoch.
"""

import json
import time
from typing import Any

from pnas_tf import files, terminal
from pnas_tf.network import build
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.train import initial_weights


def fit(*, arch: arch_lib.Arch, data, run_dir: str, init: str, epochs: int, batch_size: int, lr: float,
        momentum: float, weight_decay: float, label_smoothing: float, dropout: float, colour_jitter: str, seed: int,
        class_weights: str = "none", drop_path: float = 0.0, cutout: int = 0, precision: str = "float32",
        max_steps: int = 0, record: dict[str, Any] | None = None) -> dict:
    """Trains, and writes model.keras and train.json.

    Args:
        arch: fits the data.
        data: from `data.load`.
        run_dir: folder of the results.
        init: what to start from; see `initial_weights.build`.
        epochs: passes over the training images.
        batch_size: images a step.
        lr: at the start; a cosine to 0.
        momentum: of SGD.
        weight_decay: of convolution and dense weights.
        label_smoothing: of the training loss.
        dropout: before the classifier.
        colour_jitter: how far colours of images in files change, a name of `augment.JITTERS`.
        seed: of weights and data order.
        class_weights: of `data.CLASS_WEIGHTS`.
        drop_path: rate at which the last residual branch is left out; see `network.build_network`.
        cutout: side in pixels of a square of each training image that is set to the mean; 0 for none.
        precision: of `shared_flags.PRECISIONS`, what layers compute in; weights are float32 in each.
        max_steps: for a trial, at most so many in all; 0 for no limit.
        record: further entries of train.json, such as the command.

    Returns:
        The facts of train.json.
    """
    import keras

    from pnas_tf import data as data_lib
    from pnas_tf import network
    from pnas_tf.train.state import TrainingState

    keras.utils.set_random_seed(seed)
    model = initial_weights.build(arch, init, run_dir, dropout=dropout, drop_path=drop_path, precision=precision)
    steps = data.train.steps_per_epoch(batch_size)
    if max_steps:
        steps = min(steps, max_steps)
        epochs = min(epochs, max_steps // steps)
    loss = smoothed_loss(label_smoothing, data_lib.class_weights(data.train, class_weights))
    optimizer = sgd(lr, steps * epochs, momentum, weight_decay)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=False)
    facts: dict[str, Any] = {"params": network.count_params(model), "macs": network.count_macs(model), "epochs": epochs}
    print(f"Training {arch.space.name}: {facts['params']:,} parameters, {facts['macs']:,} MACs, "
          f"{data.train.size:,} images, {epochs} epochs of {steps} steps.")
    state = TrainingState(run_dir, {
        "arch": arch.to_json(), "dataset": data.name, "images": data.train.size, "init": init, "epochs": epochs,
        "steps": steps, "batch_size": batch_size, "lr": lr, "momentum": momentum, "weight_decay": weight_decay,
        "label_smoothing": label_smoothing, "dropout": dropout, "colour_jitter": colour_jitter,
        "class_weights": class_weights, "drop_path": drop_path, "cutout": cutout, "precision": precision, "seed": seed})
    first = state.epochs_done
    if first:
        print(f"Going on after epoch {first} of {epochs}.")
        state.restore(model)
    with data_lib.naming_broken_images():
        if first < epochs:
            model.fit(data.train.batches(batch_size, augment=True, jitter=colour_jitter, cutout=cutout, seed=seed,
                                         skip_steps=first * steps),
                      steps_per_epoch=steps, epochs=epochs, initial_epoch=first, verbose=0, shuffle=False,
                      validation_data=data.held_out.batches(256), callbacks=[_progress(first, epochs), state])
        model.compile(loss=smoothed_loss(0.0), metrics=["accuracy"])
        loss, accuracy = model.evaluate(data.test.batches(256), verbose=0)
    facts |= {"dataset": data.name, "seed": seed, "init": init, "dropout": dropout, "colour_jitter": colour_jitter,
              "drop_path": drop_path, "cutout": cutout, "precision": precision,
              "seconds": round(state.seconds, 1), "test_images": data.test.size,
              "test_loss": float(loss), "test_accuracy": float(accuracy),
              "history": state.history, **(record or {})}
    build.save_model(network.portable(model), RunFolder(run_dir).model)
    files.write_text(RunFolder(run_dir).training_facts, json.dumps(facts, indent=1) + "\n")
    state.remove()
    return facts


def sgd(lr: float, steps: int, momentum: float, weight_decay: float):
    """SGD of the paper's recipe: Nesterov momentum, cosine to 0 over all steps, no decay on batch norm.

    As in theirs, everything else decays, the classifier's bias too.

    Keras decays weights apart from the gradient, so the decay misses the momentum's gain of 1 / (1 - momentum)
    that the paper's (coupled) decay has: it is put back here.
    """
    import keras

    warmup = min(steps // 20, 1000)
    schedule = keras.optimizers.schedules.CosineDecay(lr / 10, max(1, steps - warmup), warmup_target=lr,
                                                      warmup_steps=max(1, warmup))
    optimizer = keras.optimizers.SGD(schedule, momentum=momentum, nesterov=True,
                                     weight_decay=weight_decay / (1 - momentum) or None)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
    return optimizer


def smoothed_loss(label_smoothing: float, class_weights=None):
    """Cross-entropy of logits with int labels, label smoothing and weights of classes, as a Keras loss function."""
    import tensorflow as tf

    from pnas_tf.network.evaluate import cross_entropy

    def loss(labels, logits):
        return cross_entropy(tf.cast(labels, tf.int32), logits, label_smoothing, class_weights)

    return loss


def _progress(first, epochs):
    import keras

    begin = time.monotonic()

    def show(epoch, logs):
        left = (time.monotonic() - begin) / (epoch + 1 - first) * (epochs - epoch - 1)
        print(f"epoch {epoch + 1}/{epochs}, loss {logs['loss']:.3f} acc {logs['accuracy']:.3f}, held-out loss "
              f"{logs['val_loss']:.3f} acc {logs['val_accuracy']:.3f}, {terminal.seconds(round(left))} left", flush=True)

    return keras.callbacks.LambdaCallback(on_epoch_end=show)
