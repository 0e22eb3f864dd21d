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
import shlex
import sys
import time
from typing import Any

from absl import flags

from pnas_tf import arch as arch_lib
from pnas_tf import claim, formats, initial_weights, run_flags, run_folder, shared_flags
from pnas_tf.errors import InputError

# What the authors trained each of their networks with, and so every network of that space.
DROPOUT = {"proxyless_gpu": 0.3, "proxyless_cpu": 0.2, "proxyless_mobile": 0.1, "proxyless_mobile_14": 0.3}


def run(*, arch: arch_lib.Arch, data, run_dir: str, init: str, epochs: int, batch_size: int, lr: float,
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
    from pnas_tf.training_state import TrainingState

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
    run_folder.save_model(network.portable(model), run_folder.path(run_dir, "model.keras"))
    arch_lib.write_text(run_folder.path(run_dir, "train.json"), json.dumps(facts, indent=1) + "\n")
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

    from pnas_tf.arch_updaters import cross_entropy

    def loss(labels, logits):
        return cross_entropy(tf.cast(labels, tf.int32), logits, label_smoothing, class_weights)

    return loss


def _progress(first, epochs):
    import keras

    begin = time.monotonic()

    def show(epoch, logs):
        left = (time.monotonic() - begin) / (epoch + 1 - first) * (epochs - epoch - 1)
        print(f"epoch {epoch + 1}/{epochs}, loss {logs['loss']:.3f} acc {logs['accuracy']:.3f}, held-out loss "
              f"{logs['val_loss']:.3f} acc {logs['val_accuracy']:.3f}, {formats.seconds(round(left))} left", flush=True)

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder of the search, and of the results.")
    flags.DEFINE_string("arch", None, "Name of a shipped arch or path of an arch.json; default: the folder's.")
    flags.DEFINE_string("dataset", None, "Data set; default: that of the search.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are; default: as in the search.")
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: that of the arch.", 0, 8192)
    shared_flags.define_data()
    flags.DEFINE_string("init_weights", initial_weights.SCRATCH, "Start from: scratch; inherited, the supernet's "
                        "weights in --run_dir; or a .keras file of the same arch, or the folder that has it: its "
                        "classifier is replaced for other classes.")
    flags.DEFINE_integer("epochs", 300, "Passes over the training images.", 1)
    flags.DEFINE_integer("batch_size", 256, "Images a step.", 1)
    flags.DEFINE_float("lr", 0.05, "Learning rate at the start; falls to 0 as a cosine.", 0)
    flags.DEFINE_float("momentum", 0.9, "Of SGD with Nesterov momentum.", 0, 0.999)
    flags.DEFINE_float("weight_decay", 4e-5, "Of convolution and dense weights.", 0)
    flags.DEFINE_float("label_smoothing", 0.1, "Of the training loss.", 0, 1)
    flags.DEFINE_float("dropout", None, "Before the classifier; default: the authors' for a network of theirs ("
                       + ", ".join(f"{name} {rate}" for name, rate in DROPOUT.items()) + "), 0 for others.", 0, 0.9)
    flags.DEFINE_float("drop_path", 0.0, "Rate at which the last residual branch is left out, image by image; less at "
                       "earlier ones, in proportion to depth.", 0, 0.9)
    flags.DEFINE_enum("precision", "float32", shared_flags.PRECISIONS,
                      "What layers compute in; weights are float32 in each.")
    flags.DEFINE_enum("colour_jitter", "normal", ["none", "normal", "strong"], "How far colours change at random, for "
                      "data sets of image files: normal as in the search, strong as in the authors' training.")
    flags.DEFINE_integer("seed", 0, "Of weights and data order.", 0, 2**31 - 1)
    flags.DEFINE_integer("max_steps", 0, "For a trial run: at most so many steps in all; 0: no limit.", 0)


def _main() -> None:
    f = flags.FLAGS
    if not f.run_dir:
        raise InputError("Name the folder of a search, or one for the results: --run_dir=DIR.")
    initial_weights.check(f.init_weights)
    arch = arch_lib.load(f.arch or run_folder.path(f.run_dir, "arch.json"))
    wanted = run_folder.data_arguments(f.run_dir, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed)
    run_flags.load_tensorflow()
    from pnas_tf import data as data_lib

    data = data_lib.load(**wanted, image_size=f.image_size or arch.space.input_size,
                         broken_images=f.broken_images)
    if f.class_weights == "none" and (said := data_lib.imbalance(data.train)):
        print(said)
    space = arch.space.for_data(data.image_shape[0], data.image_shape[2], data.num_classes)
    arch = arch_lib.Arch(space, arch.ops, arch.costs)
    with claim.locked(f.run_dir):
        if f.arch:
            run_folder.keep_arch(f.run_dir, arch)
        facts = _train(f, arch, data, wanted)
    print(f"\nTest accuracy {100 * facts['test_accuracy']:.2f} % on {facts['test_images']:,} images, trained in "
          f"{formats.seconds(round(facts['seconds']))}.\nModel: {run_folder.path(f.run_dir, 'model.keras')}\n"
          f"Next:  python -m export.tflite --run_dir={f.run_dir}")


def _train(f, arch, data, wanted):
    return run(arch=arch, data=data, run_dir=f.run_dir, init=f.init_weights, epochs=f.epochs,
               batch_size=min(f.batch_size, data.train.size), lr=f.lr, momentum=f.momentum,
               weight_decay=f.weight_decay, label_smoothing=f.label_smoothing,
               dropout=DROPOUT.get(arch.space.name, 0.0) if f.dropout is None else f.dropout,
               colour_jitter=f.colour_jitter, class_weights=f.class_weights, drop_path=f.drop_path, cutout=f.cutout,
               precision=f.precision, seed=f.seed, max_steps=f.max_steps,
               record={"data": {"dataset": wanted.pop("spec"), **wanted},
                       "command": shlex.join(["python", "-m", "pnas_tf.train", *sys.argv[1:]])})


def main() -> None:
    """Console script."""
    _define_flags()
    run_flags.start(_main)


if __name__ == "__main__":
    main()
