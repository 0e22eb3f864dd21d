"""The files of a run by name, its metrics, its flags and its data set."""

import dataclasses
import json
import os
from typing import Any

from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib

# Modes of export, each with <mode>.tflite, <mode>.json and <mode>.profile.json.
MODES = ("float32", "float16", "dynamic", "int8", "int8_qat")
# How a network of finalists.json was found.
ARG_MAX, MOST_PROBABLE, MOST_MACS, SAMPLE = "arg-max", "most probable within the limits", \
    "most MACs within the limits", "sample"
FEWEST_SKIPS, BEST_SUM, RANDOM = "fewest skips, then most MACs", "best sum of op effects", "random"
# Folders of the networks of the front, of trials, of the first of two stages, and of searches at several image sizes.
FRONT, TRIALS, FIRST_STAGE, IMAGE_SIZES = "front", "trials", "first_stage", "image_sizes"
# Most folders from a part of a run up to the run: a network, the front (or trials), a size (or goal), all sizes.
PART_DEPTH = 4


def front_name(ms: float) -> str:
    """Name of the folder of a network of the front."""
    return f"{ms:.4g}ms"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run: every file that a command writes into it, by name.

    Attributes:
        path: Path of the folder.
    """

    path: str

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def file(self, *names: str) -> str:
        """Path of a file or folder in the run folder."""
        return os.path.join(self.path, *names)

    @property
    def arch(self) -> str:
        """The best network so far; after the search, the delivered network."""
        return self.file("arch.json")

    @property
    def metrics(self) -> str:
        """The log of a search, one line for each epoch."""
        return self.file("metrics.jsonl")

    @property
    def finalists(self) -> str:
        """The candidates from which the delivered network was chosen."""
        return self.file("finalists.json")

    @property
    def front(self) -> str:
        """The best network at each of several budgets."""
        return self.file("front.json")

    def size_part(self, side: int) -> "RunFolder":
        """The folder of the search at one of several image sizes: a run folder of its own."""
        return self.part(os.path.join(IMAGE_SIZES, f"{side}px"))

    def front_part(self, ms: float) -> "RunFolder":
        """The folder of a network of the front: a run folder of its own."""
        return self.part(os.path.join(FRONT, front_name(ms)))

    def trial(self, number: int) -> "RunFolder":
        """The folder of a trial of a finalist, with the teacher of the search."""
        return self.part(os.path.join(TRIALS, str(number)))

    @property
    def finalist_times(self) -> str:
        """Milliseconds of finalists on the device."""
        return self.file("finalist_times.jsonl")

    @property
    def inherited_weights(self) -> str:
        """The weights that the delivered network has in the supernet."""
        return self.file("inherited.weights.h5")

    @property
    def flags(self) -> str:
        """Every flag of the search, with its value."""
        return self.file("run.flags")

    @property
    def inputs(self) -> str:
        """Digests of the files that flags name."""
        return self.file("inputs.json")

    @property
    def versions(self) -> str:
        """Versions of Python and packages, and the machine, at each start of the run."""
        return self.file("versions.json")

    @property
    def auto(self) -> str:
        """Steps of pnas_tf.auto that are complete, and how long they took."""
        return self.file("auto.json")

    @property
    def report(self) -> str:
        """The report."""
        return self.file("report.html")

    @property
    def comparison(self) -> str:
        """Predicted and measured milliseconds of whole networks."""
        return self.file("compare.json")

    @property
    def model(self) -> str:
        """The trained network."""
        return self.file("model.keras")

    @property
    def training_facts(self) -> str:
        """Settings and results of a training."""
        return self.file("train.json")

    @property
    def lock(self) -> str:
        """The lock file of the process that writes to the folder."""
        return self.file(".lock")

    @property
    def checkpoints(self) -> str:
        """The folder of a search's checkpoints."""
        return self.file("checkpoints")

    @property
    def logs(self) -> str:
        """The folder of TensorBoard's events."""
        return self.file("logs")

    @property
    def training_logs(self) -> str:
        """The folder of TensorBoard's events of a training."""
        return self.file("logs", "train")

    @property
    def mistakes(self) -> str:
        """Test images that the trained network takes for another class."""
        return self.file("mistakes.json")

    @property
    def training(self) -> str:
        """The folder of a training in progress."""
        return self.file("training")

    @property
    def teacher(self) -> str:
        """The folder of the training of a search's teacher."""
        return self.file("teacher")

    @property
    def teacher_model(self) -> str:
        """The teacher of the search, in this folder or that of the run that it is a `part` of; "" if there is none."""
        folder, own_flags = os.path.abspath(self.path), self._flags_digest()
        for depth in range(1 + PART_DEPTH):
            whole = RunFolder(folder)
            path = RunFolder(whole.teacher).model
            if os.path.exists(path) and (depth == 0 or (whole._is_search() and own_flags == whole._flags_digest())):
                return path
            folder = os.path.dirname(folder)
        return ""

    def _is_search(self) -> bool:
        return any(map(os.path.exists, (self.flags, self.arch, self.checkpoints)))

    def _flags_digest(self) -> str:  # the same in all parts of a run; "" in a run from Python
        return files.sha256(self.flags) if os.path.isfile(self.flags) else ""

    @property
    def trials(self) -> str:
        """The folder of the trials of finalists."""
        return self.file(TRIALS)

    def tflite(self, mode: str) -> str:
        """An exported network."""
        return self.file(f"{mode}.tflite")

    def export_facts(self, mode: str) -> str:
        """Facts about an exported network."""
        return self.file(f"{mode}.json")

    def model_card(self, mode: str) -> str:
        """Description of an exported network for people."""
        return self.file(f"{mode}.md")

    def profile(self, mode: str) -> str:
        """Milliseconds of an exported network, op by op."""
        return self.file(f"{mode}.profile.json")

    def profile_picture(self, mode: str) -> str:
        """Picture of `profile`."""
        return self.file(f"{mode}.profile.svg")

    def bundle(self, *, zipped: bool = False) -> str:
        """The bundle for an app team, a folder or one file."""
        return self.file("bundle.zip" if zipped else "bundle")

    @property
    def written_files(self) -> list[str]:
        """Every file that commands write. `flags`, which marks the folder as the folder of a run, comes last."""
        by_mode = [file(mode) for mode in MODES for file in (
            self.tflite, self.export_facts, self.model_card, self.profile, self.profile_picture)]
        return [self.arch, self.metrics, self.finalists, self.front, self.finalist_times, self.inherited_weights,
                self.versions, self.inputs, self.report, self.model, self.training_facts, self.mistakes,
                self.comparison, self.auto, self.bundle(zipped=True), *by_mode, self.flags]

    @property
    def written_folders(self) -> list[str]:
        """Every folder that commands write."""
        return [self.checkpoints, self.logs, self.training, self.bundle(), self.trials, self.teacher,
                self.file(FRONT), self.first_stage, self.file(IMAGE_SIZES)]

    def check_there(self) -> None:
        """Raises InputError if the folder of a running search is gone, so that no part of it is made again."""
        if not os.path.isdir(self.path) or not os.listdir(self.path):  # an unmounted mount point is an empty folder
            raise InputError(f"{self.path} is gone: it was deleted, moved or unmounted while the search ran. The "
                             "search ends here. If the folder was moved, run the same command with its new --run_dir "
                             "to continue from the last checkpoint.")

    def part(self, name: str) -> "RunFolder":
        """The folder of one goal among several: a run folder of its own, with the flags and versions of the whole run.

        Raises:
            InputError: If the folder cannot be written.
        """
        folder = RunFolder(self.file(name))
        for whole, own in ((self.flags, folder.flags), (self.versions, folder.versions)):
            if os.path.exists(whole):
                files.write_text(own, files.read_text(whole))
        return folder

    @property
    def first_stage(self) -> str:
        """The run folder of the first of two stages, inside that of the search."""
        return self.file(FIRST_STAGE)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged epochs of a search in order. If an epoch was logged twice, the later line counts.

        Raises:
            InputError: If the file cannot be read or a line is not JSON; an incomplete last line is ignored.
        """
        epochs = {}
        for entry in files.read_lines(self.metrics):
            epoch = entry.get("epoch") if isinstance(entry, dict) and entry.get("kind") == "search" else None
            if isinstance(epoch, int) and not isinstance(epoch, bool):
                epochs[epoch] = entry
        return [epochs[epoch] for epoch in sorted(epochs)]

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl."""
        files.write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))

    def read_flags(self) -> dict[str, str]:
        """Flags of the search by name.

        Raises:
            InputError: If run.flags cannot be read.
        """
        return read_flags(self.flags)

    def keep_arch(self, arch: arch_lib.Arch) -> None:
        """Writes arch.json, which describes the network of model.keras, unless the file exists.

        Raises:
            InputError: If there is an arch.json of another network, whose search would be lost, or if the file cannot
                be written.
        """
        if not os.path.exists(self.arch):
            arch.save(self.arch)
        elif (there := arch_lib.load(self.arch)).op_keys() != arch.op_keys():
            raise InputError(f"{self.arch} describes another network ({there.space.name}, {there.space.input_size} px, "
                             f"{there.space.num_classes} classes). Use another --run_dir.")


def data_arguments(run_dir: str | None, *, dataset: str | None = None, data_dir: str | None = None, seed: int = 0,
                   background: str | None = None, trained: bool = False) -> dict[str, Any]:
    """Arguments of `data.load`, apart from the image size, that give the data set of a run with the same split.

    Args:
        run_dir: Folder of the run, or None.
        dataset: Another data set, in place of the run's; the run's own data set keeps the run's split.
        data_dir: Folder of the data set's files, in place of the run's.
        seed: Seed of the split of `dataset`.
        background: Colour behind transparent parts of image files, in place of the run's.
        trained: Whether to take the data that model.keras was trained on, if they differ from the search's.

    Raises:
        InputError: If neither the run nor the caller names a data set, or the run's record is damaged.
    """
    flags = RunFolder(run_dir or "").flags
    if dataset and not (run_dir and os.path.exists(flags) and read_flags(flags).get("dataset") == dataset):
        return {"spec": dataset, "data_dir": data_dir, "seed": seed, "held_out_size": None,
                "background": background or "white"}
    if not run_dir:
        raise InputError("A model alone does not say which images belong to it: give --dataset too.")
    folder = RunFolder(run_dir)
    record = _trained_data(folder.training_facts) if trained else None
    used = record or folder.read_flags()
    where = folder.training_facts if record else folder.flags
    spec, numbers = used.get("dataset"), {}
    for name in ("seed", "held_out_size"):
        try:
            numbers[name] = int(used.get(name) or 0)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: {name} must be a whole number, got {str(used[name])[:40]!r}.") from None
    if not isinstance(spec, str) or not spec:
        raise InputError(f"{where} names no data set: give --dataset.")
    return {"spec": spec, "data_dir": data_dir or used.get("data_dir"), "seed": numbers["seed"],
            "held_out_size": numbers["held_out_size"] or None,
            "background": background or str(used.get("background") or "white")}


def _trained_data(path: str) -> dict[str, Any] | None:
    """The entry of train.json about its data set; None if there is no such file or entry."""
    facts = files.read_json(path) if os.path.exists(path) else {}
    record = facts.get("data") if isinstance(facts, dict) else None
    return record if isinstance(record, dict) else None


def read_flags(path: str) -> dict[str, str]:
    """Flags by name from a flag file. Raises InputError if it cannot be read."""
    return parse_flags(files.read_text(path, files.MAX_FLAGS_BYTES))


def parse_flags(text: str) -> dict[str, str]:
    """Flags by name, from lines such as `--name=value`, `--switch` or `--noswitch`. If given twice, both values."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().removeprefix("--").partition("=")
        if line.startswith("--") and not separator:
            name, value = (name[2:], "false") if name.startswith("no") else (name, "true")
        if line.startswith("--"):
            values[name] = f"{values[name]},{value}" if name in values else value
    return values
