"""Do the blocks and widths of 2024 pay? Compares searches at the same milliseconds, on CIFAR-10.

    python -m benchmarks.quality.modern_blocks --data_dir=DIR --out_dir=runs/modern --stages=tables
    python -m benchmarks.quality.modern_blocks --data_dir=DIR --out_dir=runs/modern

Ways to search, each with three seeds and, but for the last, about as many weight steps:

- `mb`: MBConvs, the blocks of 2019 (`cifar_mb`)
- `uib`: universal inverted bottlenecks (`cifar_uib`)
- `shared`: the same with `--share=kernels`
- `one`: MBConvs and filters, all at once (`cifar_mb_widths`)
- `two`: the same in two stages, `--stages=widths,ops`, at half the epochs each
- `twolong`: as `two`, but each stage has all the epochs, in less time than `one`, which has more branches to trace

And what the spaces hold, whatever a search finds in them (Radosavovic et al. 2019, who compare spaces by their random
networks): `mbrandom` and `uibrandom`, eight random networks that use at least 97 % of the small target, and `mbbest`
and `uibbest`, the most accurate of each eight, trained with two seeds that had no part in the choice.

All spaces are made quick to train: their stem has strides 2, their widths are scaled by 0.75. The two targets are the
calibrated milliseconds of one op everywhere, in float32. `one` and both of two stages are compared at the large target
only. Every network is trained by the same recipe, exported in float32 and int8, and both files of all networks are
timed in turns.

Each step is a command of the project, and none is done twice: stop and start again at any time. The stages `tables`
and `time` need an idle machine. Writes results.json and results.md into --out_dir.
"""

import json
import os
import shlex
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.quality import modern_results, search_quality, study, study_networks
from benchmarks.quality.modern_results import LARGE, SMALL, WAYS, Way
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

STAGES = ("tables", "search", "train", "export", "time", "results")
WIDTH_MULT, SEEDS = 0.75, 3
# Random networks of each space, and the seeds by which the best of them is judged.
RANDOM, AGAIN = 8, (8, 9)
WARMUP_EPOCHS, SEARCH_EPOCHS = 6, 2
# Networks over the whole range; all in turns, since the machine changes its pace.
COMPARE = ("--networks=20", "--calibrate=40", "--over_range", "--together=60", "--rounds=30", "--runs=3")
MODES = ("float32", "int8")


class Comparison(study.Study):
    """The study of ways to search: its networks, and its stages."""

    def __init__(self, out_dir: str, data: dict[str, str], workers: int, launcher: list[str], *, epochs: int,
                 ways: list[str], search_flags: list[str]):
        """
        Args:
            out_dir: Folder of the study.
            data: Flags that name the data set, value by name.
            workers: Number of processes at a time, each on one core.
            launcher: Command that goes before each process, such as nice.
            epochs: Epochs of each training.
            ways: Ways to search, of `WAYS`.
            search_flags: Further flags of the searches.
        """
        super().__init__(out_dir, data, workers, launcher)
        self._epochs, self._search_flags = epochs, search_flags
        self._ways = {name: WAYS[name] for name in WAYS if name in ways}

    def _space_file(self, way: Way) -> str:
        return self.path(f"{way.space}.json")

    def _table(self, way: Way) -> str:
        return self.path(f"{way.space}.jsonl")

    def make_tables(self) -> None:
        """Builds and calibrates a table of each space, and keeps the targets."""
        for way in {way.space: way for way in self._ways.values()}.values():
            files.write_text(self._space_file(way), json.dumps(quick_space(way.space).to_json(), indent=1) + "\n")
            space, table = f"--space={self._space_file(way)}", self._table(way)
            self.run("latency.build_table", [space, f"--output={table}"], f"logs/{way.space}_table.log")
            if not latency_table.read(table).header.get("calibration"):
                self.run("latency.compare", [space, f"--table={table}", *COMPARE], f"logs/{way.space}_compare.log")

    def targets(self) -> dict[str, float]:
        """Calibrated milliseconds of each target, by the op of its uniform network, which keeps the target."""
        way = WAYS["mb"]
        return study_networks.uniform_ms(quick_space(way.space), latency_table.read(self._table(way)), (SMALL, LARGE),
                                         4)

    def search(self) -> None:
        """Runs the searches: all ways with the first seed, then all with the second, and so on."""
        ms, jobs = self.targets(), {}
        for seed in range(SEEDS):
            for name, way in self._searched().items():
                goals = [f"{self._table(way)}:{ms[target]:g}" for target in way.targets]
                jobs[os.path.join("searches", f"{name}_{seed}")] = [
                    f"--space={self._space_file(way)}", *self.data_flags, *search_quality.SEARCH,
                    f"--targets={','.join(goals)}",
                    f"--warmup_epochs={WARMUP_EPOCHS // way.parts}", f"--search_epochs={SEARCH_EPOCHS // way.parts}",
                    *way.flags, f"--seed={seed}", *self._search_flags]
        self.run_all("pnas_tf.search", jobs, lambda folder: self._has_ended(os.path.basename(folder)))

    def _delivered(self, search: str) -> dict[str, tuple[str, ...]]:
        """Folders in which a search leaves its network, by target."""
        way = WAYS[search.rpartition("_")[0]]
        if len(way.targets) == 1:
            return {way.targets[0]: ("searches", search)}
        target, ms = latency_table.read(self._table(way)).target, self.targets()
        return {op: ("searches", search, goals_lib.goal_name(target, ms[op])) for op in way.targets}

    def _has_ended(self, search: str) -> bool:
        return all(self.search_ended(*names) for names in self._delivered(search).values())

    def networks(self) -> dict[str, Arch]:
        """Networks of the searches that have ended, by name: way, target, seed."""
        named = {}
        for seed in range(SEEDS):
            for way in self._searched():
                if self._has_ended(f"{way}_{seed}"):
                    for target, names in self._delivered(f"{way}_{seed}").items():
                        named[f"{way}_{target}_{seed}"] = arch_lib.load(self.folder(*names).arch)
        return named | self._sampled()

    def _searched(self) -> dict[str, Way]:
        return {name: way for name, way in self._ways.items() if not way.sampled}

    def _sampled(self) -> dict[str, Arch]:
        """Random networks, each trained with a seed of its own, and the best of each space once all are trained."""
        from pnas_tf.cost import limits, prices

        named: dict[str, Arch] = {}
        for random, best in (("mbrandom", "mbbest"), ("uibrandom", "uibbest")):
            if random in self._ways:
                way = self._ways[random]
                space, table = quick_space(way.space), latency_table.read(self._table(way))
                limit = limits.Limit("ms", prices.matrix(space, prices.milliseconds(table)), self.targets()[SMALL])
                own = study_networks.random_within(space, limit, RANDOM, seed=1)
                named |= {f"{random}_{SMALL}_{seed}": arch for seed, arch in enumerate(own)}
                facts = [self.folder(self.training(f"_{seed}", arch)).training_facts for seed, arch in enumerate(own)]
                if best in self._ways and all(map(os.path.exists, facts)):
                    accuracy = [files.read_json(path)["test_accuracy"] for path in facts]
                    named |= {f"{best}_{SMALL}_{seed}": own[int(np.argmax(accuracy))] for seed in AGAIN}
        return named

    def train(self) -> None:
        """Trains every network, searched ones with the seed of their search, and then the best of the random ones."""
        for _ in range(2):
            self.train_all(self.networks(), [f"--epochs={self._epochs}", *search_quality.TRAIN])

    def _trained(self) -> dict[str, Any]:
        """Folders of the trainings that have ended, by name of the network."""
        folders = {name: self.folder(self.training(name, arch)) for name, arch in self.networks().items()}
        return {name: folder for name, folder in folders.items() if os.path.exists(folder.training_facts)}

    def export(self) -> None:
        """Exports every trained network, and checks each file on 2,000 test images."""
        for name, folder in self._trained().items():
            if not all(os.path.exists(folder.export_facts(mode)) for mode in MODES):
                self.run("export.tflite", [f"--run_dir={folder}", f"--mode={','.join(MODES)}", "--check_images=2000",
                                           "--timing_seconds=1", "--allow_drop"], f"logs/export_{name}.log",
                         steps.ONE_CORE)

    def time_all(self) -> None:
        """Times both files of all exported networks in turns."""
        from export import timed_files

        contents = {}
        for name, folder in self._trained().items():
            for mode in MODES:
                if os.path.exists(folder.export_facts(mode)):
                    with open(folder.tflite(mode), "rb") as file:
                        contents[f"{name}_{mode}"] = file.read()
        times = timed_files.measured(contents, threads=1, delegate="xnnpack", patience_seconds=600)
        files.write_text(self.path("measured.json"), json.dumps(
            {name: facts["measured_ms"] for name, facts in times.items()}, indent=1) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """A row for each trained network.

        Returns:
            way, target, seed, accuracy (on all test images), params, macs; and for the modes that are exported
            int8_accuracy (on 2,000 test images), float32_ms and int8_ms.
        """
        times = files.read_json(self.path("measured.json")) if os.path.exists(self.path("measured.json")) else {}
        rows = []
        for name, folder in self._trained().items():
            (way, target, seed), facts = study.parts(name), files.read_json(folder.training_facts)
            row = {"way": way, "target": target, "seed": seed, "accuracy": facts["test_accuracy"],
                   "params": facts["params"], "macs": facts["macs"]}
            if os.path.exists(folder.export_facts("int8")):
                row["int8_accuracy"] = files.read_json(folder.export_facts("int8"))["top1"]
            rows.append(row | {f"{mode}_ms": times[f"{name}_{mode}"] for mode in MODES if f"{name}_{mode}" in times})
        return rows

    def results(self) -> None:
        """Writes and prints the results of the trainings that have ended."""
        rows = self.rows()
        seconds = {f"{way}_{seed}": steps.search_seconds(self.path("searches", f"{way}_{seed}"))
                   for way in self._ways for seed in range(SEEDS)}
        text = modern_results.show(rows, self.targets(), {name: value for name, value in seconds.items() if value})
        files.write_text(self.path("results.json"), json.dumps(rows, indent=1) + "\n")
        files.write_text(self.path("results.md"), text + "\n")
        print(text)


def quick_space(name: str) -> Space:
    """A space for CIFAR-10 with a stem of strides 2 and widths scaled by 0.75.

    Args:
        name: Name of the space; `_widths` behind it makes filters choices.
    """
    return study_networks.quick(name, WIDTH_MULT)


def _define_flags() -> None:
    study.define_flags(STAGES)
    flags.DEFINE_string("data_dir", None, "Folder of CIFAR-10's files.", required=True)
    flags.DEFINE_integer("epochs", 5, "Epochs of each training.", 1)
    flags.DEFINE_multi_enum("way", list(WAYS), list(WAYS), "Way to search; may be repeated.")
    flags.DEFINE_string("search_more", "", "Further flags of the searches, such as --max_steps=20 for a trial.")


def _main() -> None:
    f = flags.FLAGS
    study.check_stages(f.stages, STAGES)
    start.load_tensorflow()
    comparison = Comparison(f.out_dir, {"dataset": "cifar10", "data_dir": f.data_dir}, f.workers,
                            shlex.split(f.launcher), epochs=f.epochs, ways=f.way,
                            search_flags=shlex.split(f.search_more))
    study.run_stages({"tables": comparison.make_tables, "search": comparison.search, "train": comparison.train,
                      "export": comparison.export, "time": comparison.time_all, "results": comparison.results},
                     f.stages)


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
