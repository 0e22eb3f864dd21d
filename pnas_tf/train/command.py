"""The command `python -m pnas_tf.train`: its flags and its output."""

import os
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from pnas_tf import files, shell, terminal, train
from pnas_tf.cli import settings, start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, claim, front_file
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import memory
from pnas_tf.train import initial_weights
from pnas_tf.train import recipe as recipe_lib
from pnas_tf.train.recipe import Recipe

if TYPE_CHECKING:
    from pnas_tf.data import Data


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("run_dir", None, "Folder of the search, which also receives the results.")
    flags.DEFINE_string("pick", None, "Another network of the search's front: the largest within these milliseconds "
                        "(3.2ms).")
    flags.DEFINE_string("arch", None, "Name of a shipped arch or path of an arch.json; default: that of --run_dir.")
    flags.DEFINE_string("dataset", None, "Data set; default: the data set of the search.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files; default: as in the search.")
    flags.DEFINE_string("background", None, "Colour behind transparent parts of image files; default: as in the search "
                        "or, without one, white.")
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: as for the arch.", 0, 8192)
    flags.DEFINE_bool("overwrite", False, "Replace the network of a training with other settings in the folder.")
    settings.define(Recipe)


def _main() -> None:
    f = flags.FLAGS
    if not f.run_dir:
        raise InputError("Name the folder of a search, or a folder for the results: --run_dir=DIR.")
    if not f.arch and not os.path.isdir(f.run_dir):
        raise InputError(f"{f.run_dir}: no such folder. Name the folder of a search by --run_dir, or a network by "
                         "--arch and a folder for the results by --run_dir.")
    initial_weights.check(f.init_weights)
    recipe_lib.check_teacher_flag(f.teacher, (recipe_lib.AUTO, recipe_lib.NONE))
    folder = front_file.picked(RunFolder(f.run_dir), f.pick) if f.pick is not None else RunFolder(f.run_dir)
    arch = arch_lib.load(f.arch or folder.arch)
    memory.check_network(arch if not f.image_size else arch.for_data(
        f.image_size, arch.space.input_channels, arch.space.num_classes))
    source = run_folder.data_arguments(folder.path, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed,
                                       background=f.background)
    start.load_tensorflow()
    with claim.locked(folder.path):
        facts = _train(arch, source, folder)
    print(f"\nTest accuracy {100 * facts['test_accuracy']:.2f} % on {facts['test_images']:,} images, trained in "
          f"{terminal.seconds(round(facts['seconds']))}.\n{_worst(folder)}Model: {folder.model}\n"
          f"Next:  {start.next_command('export.tflite', f'--run_dir={folder}')}")


def _worst(folder: RunFolder) -> str:
    """A line about the mistakes of the network; "" if it makes none."""
    from pnas_tf.train import mistakes

    line = mistakes.summary(files.read_json(folder.mistakes))
    return line and line + "\n"


def _train(arch: arch_lib.Arch, source: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    from pnas_tf import data as data_lib
    from pnas_tf.train.fit import fit

    f = flags.FLAGS
    data = data_lib.load(**source, image_size=f.image_size or arch.space.input_size, broken_images=f.broken_images,
                         normalisation=arch.space.normalisation)
    if not f.dataset:
        _check_images(data, f.run_dir, source["spec"])
    if f.class_weights == "none" and (message := data_lib.imbalance(data.train)):
        print(message)
    arch = arch_lib.Arch(arch.space.fitted_to(data), arch.ops,
                         arch.costs)
    if f.arch:
        folder.keep_arch(arch)
    recipe = settings.read(Recipe)
    return fit(arch, data, recipe, folder, overwrite=f.overwrite, record={
        "data": {"dataset": source.pop("spec"), **source},
        "command": shell.line(["python", "-m", "pnas_tf.train", *sys.argv[1:]])})


def _check_images(data: "Data", run_dir: str, spec: str) -> None:
    """Refuses images that are not those of the search: those that it trained on could be test images now.

    Images in memory have other contents at another size, so only those of the search's size are compared.
    """
    folder = RunFolder(run_dir)
    known = files.read_json(folder.inputs) if os.path.exists(folder.inputs) else {}
    for part, images in (("training", data.train), ("held-out", data.held_out)):
        there = known.get(f"contents of the {part} images") if isinstance(known, dict) else None
        if there is not None and there != images.fingerprint and (data.rendering or not flags.FLAGS.image_size):
            raise InputError(f"The {part} images of {spec} are not those of the search in {run_dir}: files were added, "
                             "removed or changed. Put them back, or search again in another --run_dir.")


def main() -> None:
    """Runs the command."""
    define_flags()
    start.start(_main, manual=train.__doc__)
