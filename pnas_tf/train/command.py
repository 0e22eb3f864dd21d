"""The command `python -m pnas_tf.train`: its flags, and what it prints."""

import shlex
import sys

from absl import flags

from pnas_tf import terminal, train
from pnas_tf.cli import settings as shared_flags
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, claim
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch as arch_lib
from pnas_tf.train import initial_weights
from pnas_tf.train.fit import fit
from pnas_tf.train.recipe import DROPOUT


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
    arch = arch_lib.load(f.arch or RunFolder(f.run_dir).arch)
    wanted = run_folder.data_arguments(f.run_dir, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed)
    start.load_tensorflow()
    from pnas_tf import data as data_lib

    data = data_lib.load(**wanted, image_size=f.image_size or arch.space.input_size,
                         broken_images=f.broken_images)
    if f.class_weights == "none" and (said := data_lib.imbalance(data.train)):
        print(said)
    space = arch.space.for_data(data.image_shape[0], data.image_shape[2], data.num_classes)
    arch = arch_lib.Arch(space, arch.ops, arch.costs)
    with claim.locked(f.run_dir):
        if f.arch:
            RunFolder(f.run_dir).keep_arch(arch)
        facts = _train(f, arch, data, wanted)
    print(f"\nTest accuracy {100 * facts['test_accuracy']:.2f} % on {facts['test_images']:,} images, trained in "
          f"{terminal.seconds(round(facts['seconds']))}.\nModel: {RunFolder(f.run_dir).model}\n"
          f"Next:  python -m export.tflite --run_dir={f.run_dir}")


def _train(f, arch, data, wanted):
    return fit(arch=arch, data=data, run_dir=f.run_dir, init=f.init_weights, epochs=f.epochs,
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
    start.start(_main, manual=train.__doc__)
