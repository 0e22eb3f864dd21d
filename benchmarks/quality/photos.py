"""Do pretrained weights and a search pay on a small folder of photos? All rivals see the same images.

    python -m benchmarks.quality.photo_folders --output=photos
    python -m benchmarks.quality.photos --photos=photos --output=runs/photos --list
    python -m benchmarks.quality.photos --photos=photos --output=runs/photos

The rivals, each trained on each folder with each seed:

- `cnn`: a plain CNN, as many Keras users write it first
- `lite0`: EfficientNet-Lite0, fine-tuned from its ImageNet weights
- `width_S`, `depth_S`, `resolution_S`: Lite0 cut by hand to S % of its milliseconds, fine-tuned from its weights with
  `lite0` as their teacher, from whose weights the last two start
- `scratch`: a network of the README's search, trained from scratch
- `search_S`: a network of the search from pretrained weights for S % of Lite0's milliseconds
- `depth_S_int8`, `resolution_S_int8`, `search_S_int8`: the same, where the int8 file takes S % of the milliseconds of
  Lite0's float32 file. This log has their files in float32, as for all rivals: `photos_int8` measures those in int8

Each command runs once: the benchmark can be stopped and started again at any time. steps.jsonl has a line for each
command that ended, results.jsonl one for each rival, results.md the means, and trade_off.svg the plot. The time of
a command that was stopped and continued counts from where it continued.

The first step builds latency tables and times Lite0's cuts: leave the machine idle for these minutes.
"""

import itertools
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import steps
from benchmarks.quality import photo_cuts, photo_results, photo_rivals
from pnas_tf import files, terminal
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch

LITE0 = "efficientnet_lite0"

SIZE, SCRATCH_SIZE = 96, 64  # height and width of the images
# The recipe itself is that of pnas_tf.train for pretrained weights, which the networks of the search have, too. Its
# defaults would be the same if the search had trained the teacher.
FINE_TUNE = ("--init_weights=imagenet",)
DISTIL = ("--distill=0.5", "--temperature=2", "--distill_features=4")
FROM_TEACHER = "--init_weights=teacher"  # networks of whole blocks
# The README's commands.
SCRATCH_SEARCH = ("--flagfile=quickstart.flags", "--space=cifar_mb", f"--image_size={SCRATCH_SIZE}", "--batch_size=32")
SCRATCH_TRAIN = ("--epochs=30", "--batch_size=32")
SEARCH = ("--space=lite0",)
SMALLER = "80,64"  # images that the search may take instead
CALIBRATION = ("--networks=10", "--calibrate=40", "--over_range")
# Many short visits of all cuts in turns, since the machine changes its pace.
VISITS = {"rounds": 30, "runs": 3}


class Benchmark:
    """The files of the benchmark, and its commands."""

    def __init__(self, output: str, photos: str, launcher: Sequence[str] = (),
                 more: Mapping[str, Sequence[str]] | None = None):
        """
        Args:
            output: Folder of the benchmark.
            photos: Folder of the folders of pictures.
            launcher: Command that goes before each process, such as nice.
            more: Flags to add to the commands, by module, for a trial run.
        """
        self.output, self._photos, self._launcher, self._more = output, photos, tuple(launcher), more or {}
        self.log = os.path.join(output, "results.jsonl")
        self._steps = os.path.join(output, "steps.jsonl")

    def path(self, *names: str) -> str:
        """Path of a file or folder of the benchmark."""
        return os.path.join(self.output, *names)

    def step(self, name: str, module: str, arguments: Sequence[str]) -> float:
        """Runs a command, unless it has ended before.

        Args:
            name: Name of the step.
            module: Module of the command.
            arguments: Flags of the command.

        Returns:
            CPU seconds that it took.

        Raises:
            InputError: If the command fails.
        """
        ended = {line["step"]: line["cpu_seconds"] for line in read(self._steps)}
        if name not in ended:
            print(f"{name}: python -m {module}", flush=True)
            used = steps.command(module, [*arguments, *self._more.get(module, ())], self.path("logs", f"{name}.log"),
                                 launcher=self._launcher)
            files.append_line(self._steps, {"step": name, **used})
            ended[name] = used["cpu_seconds"]
        return ended[name]

    def missing(self, folders: Sequence[str], seeds: Sequence[int], rivals: Sequence[str]
                ) -> list[tuple[str, int, str]]:
        """Folder, seed and rival of the results that are not in the log yet, in the order in which they are made.

        Lite0 comes first: its cuts need it as their teacher, and all networks are timed beside it.
        """
        done = {(line["folder"], line["seed"], line["rival"]) for line in results(self.log)}
        ordered = [rival for rival in photo_rivals.ALL if rival in rivals]
        return [key for key in itertools.product(folders, seeds, ordered) if key not in done]

    def run(self, folder: str, seed: int, rival: str) -> dict[str, Any]:
        """Makes one result and appends it to the log.

        Args:
            folder: Name of the folder of pictures.
            seed: Seed of the split, and of the rival's training.
            rival: One of `photo_rivals.ALL`.

        Returns:
            folder, seed, rival, test_accuracy, cpu_seconds (of search and training, and of the teacher), params, macs,
            and ms and lite0_ms, measured in turns.

        Raises:
            InputError: If a command fails.
        """
        own, whole = (self.network(folder, seed, each) for each in (rival, photo_rivals.BASE))
        run_dir, name = own.path, os.path.basename(own.path)
        data = [f"--dataset={self._spec(folder)}", f"--seed={seed}"]
        parts = photo_rivals.parse(rival)
        if parts.kind in photo_cuts.RULES:
            cpu_seconds = self._cut(name, parts, data, whole)
        elif parts.kind in ("scratch", "search"):
            cpu_seconds = self._searched(name, folder, parts, data, whole)
        elif parts.kind == "cnn":
            cpu_seconds = self.step(name, "benchmarks.quality.plain_cnn", [*data, f"--image_size={SIZE}",
                                                                           f"--run_dir={run_dir}"])
        else:
            cpu_seconds = self.step(name, "pnas_tf.train", [*data, *FINE_TUNE, f"--arch={LITE0}",
                                                            f"--image_size={SIZE}", f"--run_dir={run_dir}"])
        self.step(f"{name}_export", "export.tflite", [f"--run_dir={run_dir}", "--mode=float32"])
        facts = files.read_json(own.training_facts)
        ms, lite0_ms = in_turns(own.tflite("float32"), whole.tflite("float32"))
        result = {"folder": folder, "seed": seed, "rival": rival, "test_accuracy": facts["test_accuracy"],
                  "cpu_seconds": round(cpu_seconds, 1), "params": facts["params"], "macs": facts["macs"], "ms": ms,
                  "lite0_ms": lite0_ms}
        files.append_line(self.log, result)
        return result

    def network(self, folder: str, seed: int, rival: str) -> RunFolder:
        """The run folder of a rival; its name is also that of the step that trains it."""
        return RunFolder(self.path("networks", f"{folder}_{rival}_{seed}"))

    def _spec(self, folder: str) -> str:
        return f"folder:{os.path.join(self._photos, folder)}"

    def _num_classes(self, folder: str) -> int:
        root = os.path.join(self._photos, folder)
        parts = next(os.walk(root))[1]
        return len(next(os.walk(os.path.join(root, "train")))[1] if "train" in parts else parts)

    def _cut(self, name: str, parts: photo_rivals.Rival, data: Sequence[str], whole: RunFolder) -> float:
        """Fine-tunes a cut of Lite0; the CPU seconds include those of the teacher, for which images are enlarged."""
        run_dir, (teacher, teacher_seconds) = self.path("networks", name), self._teacher(name, whole)
        arch = self.cut(parts, self.share(parts, whole))
        arch_path = f"{run_dir}.arch.json"
        arch.save(arch_path)
        start = FINE_TUNE if parts.kind == "width" else (FROM_TEACHER,)
        return teacher_seconds + self.step(
            name, "pnas_tf.train", [*data, *start, f"--teacher={teacher}", *DISTIL, f"--arch={arch_path}",
                                    f"--image_size={arch.space.input_size}", f"--run_dir={run_dir}"])

    def _teacher(self, name: str, whole: RunFolder) -> tuple[str, float]:
        """File of the fine-tuned Lite0, from which the network of this name learns, and CPU seconds that it took."""
        if not os.path.exists(whole.model):
            raise InputError(f"{name} learns from the fine-tuned Lite0, which is missing: expected {whole.model}. Add "
                             "lite0 to --rivals.")
        return whole.model, self.step(os.path.basename(whole.path), "pnas_tf.train", [])

    def _searched(self, name: str, folder: str, parts: photo_rivals.Rival, data: Sequence[str], whole: RunFolder
                  ) -> float:
        """Searches and trains: from scratch or, if there is a share, from pretrained weights.

        Such a search would fine-tune the whole network as its teacher. Here it takes the one that is trained already,
        whose CPU seconds count.
        """
        run_dir = f"--run_dir={self.path('networks', name)}"
        num_classes = self._num_classes(folder)
        if parts.share:
            teacher, teacher_seconds = self._teacher(name, whole)
            table = self.table("lite0", SIZE, num_classes, parts.dtype)
            target_ms = lite0_ms(table, num_classes) * self.share(parts, whole)
            search = [*SEARCH, f"--table={table}", f"--target_ms={terminal.rounded_up(target_ms)}",
                      f"--teacher={teacher}"]
            recipe: Sequence[str] = (*DISTIL, FROM_TEACHER)
        else:
            search = [*SCRATCH_SEARCH, f"--table={self.table('cifar_mb', SCRATCH_SIZE, num_classes)}"]
            recipe, teacher_seconds = SCRATCH_TRAIN, 0.0
        return (teacher_seconds + self.step(f"{name}_search", "pnas_tf.search", [*search, *data, run_dir])
                + self.step(name, "pnas_tf.train", [*recipe, data[-1], run_dir]))

    def share(self, parts: photo_rivals.Rival, whole: RunFolder) -> float:
        """Share of Lite0's milliseconds that a rival may take, of Lite0 in the dtype of the rival's file.

        Args:
            parts: The rival.
            whole: Run folder of a fine-tuned Lite0, whose float32 and int8 files are timed in turns, once.
        """
        if parts.dtype == "float32":
            return parts.share / 100
        path = self.path(f"lite0_{parts.dtype}_ms.json")
        if not os.path.exists(path):
            ms, float32_ms = in_turns(self.exported(whole, parts.dtype), whole.tflite("float32"))
            files.write_text(path, json.dumps({"ms": ms, "float32_ms": float32_ms}) + "\n")
        facts = files.read_json(path)
        return parts.share / 100 * facts["float32_ms"] / facts["ms"]

    def exported(self, folder: RunFolder, mode: str) -> str:
        """Path of a network's .tflite in a mode, which is written once, even if it loses more than the bound."""
        self.step(f"{os.path.basename(folder.path)}_{mode}", "export.tflite",
                  [f"--run_dir={folder}", f"--mode={mode}", "--allow_drop", "--timing_seconds=0"])
        return folder.tflite(mode)

    def table(self, space: str, image_size: int, num_classes: int, dtype: str = "float32") -> str:
        """Path of the latency table of a space, which is built if it is missing."""
        suffix = photo_rivals.suffix(dtype)
        path = self.path(f"{space}_{image_size}{suffix}.jsonl")  # tables of other classes differ in one row
        smaller = [f"--smaller_images={SMALLER}"] if space == "lite0" else []
        self.step(f"table_{space}_{num_classes}{'_sizes' if smaller else ''}{suffix}", "latency.build_table", [
            f"--space={space}", f"--image_size={image_size}", f"--num_classes={num_classes}", f"--output={path}",
            f"--dtype={dtype}", *smaller])
        if smaller:  # sums of rows measured alone fall short of large networks more than of small ones
            for size in (image_size, *SMALLER.split(",")):
                self.step(f"calibrated_{space}_{size}{suffix}", "latency.compare", [
                    f"--table={path}", f"--space={space}", f"--image_size={size}", f"--num_classes={num_classes}",
                    *CALIBRATION])
        return path

    def cut(self, parts: photo_rivals.Rival, share: float, num_classes: int = 10) -> Arch:
        """Lite0 cut by a rule to a share of its milliseconds: see `photo_cuts.slowest_within`.

        All networks of all ladders of a dtype's rivals are timed once, for one number of classes, in turns.

        Args:
            parts: The rival, whose kind is one of `photo_cuts.RULES`.
            share: Share of the milliseconds of Lite0 in the rival's dtype.
            num_classes: Number of classes of the timed networks.
        """
        from export import timing
        from latency import measure, timed_networks
        from pnas_tf.cost import latency_table, network_times

        full = lite0(num_classes)
        rules = dict.fromkeys(other.kind for other in map(photo_rivals.parse, photo_rivals.ALL)
                              if other.kind in photo_cuts.RULES and other.dtype == parts.dtype)
        ladders = {each: photo_cuts.ladders(full, each) for each in rules}
        archs = {arch.fingerprint(): arch for each in ladders.values() for archs in each for arch in archs}
        path = self.table("lite0", SIZE, num_classes, parts.dtype)
        header = {**latency_table.read(path).header, **VISITS, "together": len(archs), "statistic": timing.STATISTIC}
        timed = timed_networks.measured(self.path(f"cuts{photo_rivals.suffix(parts.dtype)}.jsonl"),
                                        measure.from_header(header, path), [(arch, 1) for arch in archs.values()])
        ms = {name: timed[network_times.digest(arch), 1] for name, arch in archs.items()}
        return photo_cuts.slowest_within(ladders[parts.kind], ms, ms[full.fingerprint()] * share)


def lite0_ms(table: str, num_classes: int) -> float:
    """Milliseconds of Lite0 by a latency table."""
    from pnas_tf.cost import latency_table, prices

    return prices.of_arch(lite0(num_classes), prices.milliseconds(latency_table.read(table)))


def lite0(num_classes: int) -> Arch:
    """EfficientNet-Lite0 for the benchmark's images."""
    full = arch_lib.load(LITE0)
    return Arch(full.space.for_data(SIZE, 3, num_classes), full.ops)


def in_turns(path: str, lite0_path: str) -> tuple[float, float]:
    """Milliseconds of an exported network and of Lite0, visited in turns: the machine changes its pace.

    Args:
        path: Path of the network's .tflite.
        lite0_path: Path of Lite0's .tflite.

    Raises:
        InputError: If a file is missing.
    """
    from export import interpreter, timing

    for each in (path, lite0_path):
        if not os.path.exists(each):
            raise InputError(f"{each}: no such file. All networks are timed beside Lite0: add lite0 to --rivals.")
    invoke = {each: interpreter.subject(interpreter.make_interpreter(each))[0] for each in (path, lite0_path)}
    times = {each: timing.summarise(samples)["median_ms"] for each, samples in timing.spread_out(
        list(invoke), VISITS["rounds"], lambda each: timing.timed_ms(invoke[each], VISITS["runs"]))}
    return times[path], times[lite0_path]


def results(path: str) -> list[dict[str, Any]]:
    """Results in a log, without those that were not timed beside Lite0, as older versions wrote them."""
    return [line for line in read(path) if "lite0_ms" in line]


def read(path: str) -> list[dict[str, Any]]:
    """Lines of a log; none if there is no file yet. A last line that was cut off is left out."""
    if not os.path.exists(path):
        return []
    with open(path, "r+b") as file:
        files.drop_half_line(file)
    return files.read_lines(path)


def _main() -> None:
    f = flags.FLAGS
    folders = f.folders or sorted(name for name in next(os.walk(f.photos))[1]
                                  if os.path.exists(os.path.join(f.photos, name, "SOURCE.json")))
    if unknown := set(f.rivals) - set(photo_rivals.ALL):
        raise InputError(f"--rivals must be of {', '.join(photo_rivals.ALL)}; got {', '.join(sorted(unknown))}.")
    trial = {"benchmarks.quality.plain_cnn": [f"--epochs={f.epochs}"], "pnas_tf.train": [f"--epochs={f.epochs}"],
             "pnas_tf.search": [f"--max_steps={10 * f.epochs}"]} if f.epochs else {}
    benchmark = Benchmark(f.output, f.photos, shlex.split(f.launcher), trial)
    missing = benchmark.missing(folders, list(map(int, f.seeds)), f.rivals)
    if f.list:
        print("\n".join(f"{folder} seed {seed}: {rival}" for folder, seed, rival in missing) or "Nothing is missing.")
        return
    for number, (folder, seed, rival) in enumerate(missing, start=1):
        result = benchmark.run(folder, seed, rival)
        print(f"{number} of {len(missing)}: {folder}, seed {seed}, {rival}: {result['test_accuracy']:.2%}, "
              f"{result['ms']:.3f} ms, {result['cpu_seconds']:.0f} s", flush=True)
    print(photo_results.write(f.output, results(benchmark.log)))


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("photos", None, "Folder of the folders of pictures.", required=True)
    flags.DEFINE_string("output", None, "Folder of the benchmark.", required=True)
    flags.DEFINE_list("folders", [], "Folders of pictures; default: all that photo_folders has made.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of splits and trainings.")
    flags.DEFINE_list("rivals", list(photo_rivals.ALL), "Rivals to train.")
    flags.DEFINE_string("launcher", "", "Command that goes before each process, such as nice.")
    flags.DEFINE_integer("epochs", 0, "Epochs of each training, for a trial run; 0: as is right.", 0)
    flags.DEFINE_bool("list", False, "Prints what is missing, and trains nothing.")
    start.start(_main)


if __name__ == "__main__":
    main()
