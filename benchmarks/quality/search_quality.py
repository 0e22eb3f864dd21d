"""Does search pay? Compares searched networks with random, uniform and scaled ones of equal latency, trained alike.

    python -m benchmarks.quality.search_quality --data_dir=DIR --out_dir=runs/search_quality --stages=table
    python -m benchmarks.quality.search_quality --data_dir=DIR --out_dir=runs/search_quality
    python -m benchmarks.quality.search_quality --out_dir=runs/search_quality --stages=results

Everything is kept in --out_dir, where each search and each training has a folder, and no step is done twice: the study
can be stopped and started again at any time. The stages:

- `table` builds and calibrates the latency table, and times MobileNetV2 of many widths. Leave the machine idle.
- `search` and `train` run --workers processes at a time, each on one core.
- `rank` scores networks with weights inherited from a warmed-up supernet.
- `time` times all trained networks. Leave the machine idle.
- `results` prints tables and draws the plot.

Searches are compared with random search in equal time, too: the best of as many random networks as one core trains in
the time of a search and of the training of what it found.

MobileNetV2 is compared at equal measured milliseconds: once the searched networks are timed, its width becomes the
one that took as long as they did. So run `train`, `time` and `results` a second time.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Collection, Sequence

import numpy as np
from absl import flags

from benchmarks.quality import inherited_scores, study, study_networks, study_results, warm_supernet
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib

STAGES = ("table", "search", "rank", "train", "time", "results")
# Ops of the uniform networks whose milliseconds are the two targets. Larger targets would be above the knee of the
# table: only networks with 7x7 ops, which XNNPACK runs slowly, take so long.
TARGET_OPS = ("mb_k5_e3", "mb_k3_e6")
# Seeds of each search and of each rival, and number of random networks at each target. These hold no 7x7 op, which a
# person would not choose either.
SEEDS, RANDOM, WITHOUT = 5, 15, "_k7_"
BATCH_SIZE, HELD_OUT = 96, 5000
SEARCH = (f"--batch_size={BATCH_SIZE}", "--warmup_lr=0.2", "--lr=0.08", "--arch_every=1", f"--held_out_size={HELD_OUT}",
          "--use_all_ms")
TRAIN = (f"--batch_size={BATCH_SIZE}", "--lr=0.1", "--weight_decay=1e-4")
# Many short visits of all networks in turns, since the machine changes its pace.
VISITS = {"rounds": 60, "runs": 3}
# Widths of MobileNetV2 are timed along with the networks if their times are within this factor of a target.
WIDTHS_NEAR = 1.5
# Networks over the whole range, since searches go to its cheap end; all in turns, since the machine changes its pace.
COMPARE = ("--networks=30", "--calibrate=70", "--over_range", "--together=100", "--rounds=30", "--runs=3")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        width_mult: Factor of all widths of the space.
        epochs: Epochs of each training.
        warmup_epochs: Warm-up epochs of each search.
        search_epochs: Epochs of each search after the warm-up.
        target_ops: Targets at which networks are trained and compared, by the op of their uniform network.
        kinds: Kinds of networks to train and compare, of `study_results.TRAINED`.
    """

    width_mult: float = 0.75
    epochs: int = 10
    warmup_epochs: int = 6
    search_epochs: int = 3
    target_ops: Sequence[str] = TARGET_OPS
    kinds: Collection[str] = study_results.TRAINED


class Study(study.Study):
    """The study of search quality: its networks, and its stages."""

    def __init__(self, out_dir: str, data: dict[str, str], workers: int, launcher: list[str],
                 settings: Settings = Settings()):
        """
        Args:
            out_dir: Folder of the study.
            data: Flags that name the data set, value by name.
            workers: Number of processes at a time, each on one core.
            launcher: Command that goes before each process, such as nice.
            settings: Settings of the study.
        """
        super().__init__(out_dir, data, workers, launcher)
        self._data, self._settings = data, settings
        self.space = study_networks.study_space(settings.width_mult)
        self.table_path = self.path("host.jsonl")
        self.write_json("space.json", self.space.to_json())

    def table(self) -> latency_table.LatencyTable:
        """The latency table of the study."""
        return latency_table.read(self.table_path)

    def write_json(self, file: str, value) -> None:
        """Writes a JSON file of the study."""
        files.write_text(self.path(file), json.dumps(value, indent=1) + "\n")

    def targets(self) -> dict[str, float]:
        """Milliseconds of each target, by the op of its uniform network, which keeps the target."""
        return study_networks.uniform_ms(self.space, self.table(), TARGET_OPS, 5)

    def limits(self):
        """The `limits.Limit` of each target."""
        from pnas_tf.cost import limits, prices

        ms = prices.matrix(self.space, prices.milliseconds(self.table()))
        return {op: limits.Limit("ms", ms, target_ms) for op, target_ms in self.targets().items()}

    def make_table(self) -> None:
        """Builds and calibrates the table, and times MobileNetV2 of many widths."""
        space_flag = f"--space={self.path('space.json')}"
        self.run("latency.build_table", ["--measurer=host", space_flag, f"--output={self.table_path}"], "table.log")
        self.run("latency.compare", [f"--table={self.table_path}", space_flag, *COMPARE], "compare.log")
        widths = study_networks.distinct({f"{width:.2f}": study_networks.mobilenet_v2(self.space, width)
                                          for width in np.arange(0.3, 2.5, 0.05)})
        self.write_json("widths.json", self.timed(widths, "widths.jsonl"))

    def timed(self, archs: dict[str, arch_lib.Arch], file: str) -> dict[str, float]:
        """Times networks on the table's target: all in turns, in two passes.

        The times are compared with each other only, so they need not follow the statistic of the table.

        Args:
            archs: Networks by name.
            file: File of the study that keeps the times.

        Returns:
            The mean milliseconds of both passes, by name.
        """
        from export import timing
        from latency import measure, timed_networks
        from pnas_tf.cost import network_times

        header = {**self.table().header, **VISITS, "together": len(archs), "statistic": timing.STATISTIC}
        device = measure.from_header(header, self.table_path)
        passes = [(arch, number) for number in (1, 2) for arch in archs.values()]
        ms = timed_networks.measured(self.path(file), device, passes)
        return {name: float(np.mean([ms[network_times.digest(arch), number] for number in (1, 2)]))
                for name, arch in archs.items()}

    def searches(self) -> dict[str, list[str]]:
        """Flags of each search by its name: kind and seed."""
        base = [f"--space={self.path('space.json')}", *self.data_flags, *SEARCH]
        common = [*base, f"--warmup_epochs={self._settings.warmup_epochs}",
                  f"--search_epochs={self._settings.search_epochs}"]
        both = "--targets=" + ",".join(f"{self.table_path}:{ms}" for ms in self.targets().values())
        named = {f"gradient_{seed}": [*common, both, f"--seed={seed}"] for seed in range(SEEDS)}
        named |= {f"reinforce_{seed}": [*common, both, "--arch_update=reinforce", "--arch_every=3", f"--seed={seed}"]
                  for seed in range(SEEDS)}
        named["unaware_0"] = [*common, f"--table={self.table_path}", "--latency_loss=none", "--seed=0"]
        return named

    def search(self) -> None:
        """Runs the searches."""
        jobs = {f"searches/{name}": arguments for name, arguments in self.searches().items() if self._chosen(name)}
        self.run_all("pnas_tf.search", jobs, lambda folder: self.searched(os.path.basename(folder)))

    def goal_folders(self, search: str) -> dict[str, str]:
        """Folders of the study in which a search leaves its networks, by target."""
        folder = os.path.join("searches", search)
        if study.parts(search)[0] == "unaware":
            return {"unaware": folder}
        return {op: os.path.join(folder, goals_lib.goal_name(self.table().target, ms))
                for op, ms in self.targets().items()}

    def searched(self, search: str) -> dict[str, arch_lib.Arch]:
        """The networks that a search has delivered, by target; empty before it has ended.

        Args:
            search: Name of the search, of `searches`.
        """
        folders = self.goal_folders(search)
        if not all(self.search_ended(folder) for folder in folders.values()):
            return {}
        return {op: arch_lib.load(self.folder(folder).arch) for op, folder in folders.items()}

    def rivals(self) -> dict[str, arch_lib.Arch]:
        """The networks that a search has to beat, by the name of their training."""
        from pnas_tf.cost import prices, within_limits
        from pnas_tf.space.arch import from_path

        widths, searched_ms, named = files.read_json(self.path("widths.json")), self._searched_ms(), {}
        macs = prices.matrix(self.space, prices.macs())
        for op, limit in self.limits().items():
            for number, arch in enumerate(study_networks.random_within(self.space, limit, RANDOM, seed=1,
                                                                       without=WITHOUT)):
                named[f"random_{op}_{number}"] = arch
            width = float(study_networks.nearest(widths, searched_ms.get(op, limit.bound)))
            largest = within_limits.most_of(macs, [limit], within_limits.USED_SHARE)
            if largest is None:
                raise InputError(f"No network of {self.space.name} keeps {limit.bound:g} ms.")
            kinds = {"uniform": study_networks.uniform(self.space, op),
                     "mobilenetv2": study_networks.mobilenet_v2(self.space, width),
                     "mostmacs": from_path(self.space, largest)}
            named |= {f"{kind}_{op}_{seed}": arch for kind, arch in kinds.items() for seed in range(SEEDS)}
        named["biggest_0"] = study_networks.uniform(self.space, "mb_k7_e6")
        return named

    def _searched_ms(self):
        """Mean measured milliseconds of the searched networks by target; empty before `time`."""
        if not os.path.exists(self.path("measured.json")):
            return {}
        by_target: dict[str, list[float]] = {}
        for name, ms in files.read_json(self.path("measured.json")).items():
            kind, op, _ = study.parts(name)
            if kind == study_results.FOUND:
                by_target.setdefault(op, []).append(ms)
        return {op: float(np.mean(ms)) for op, ms in by_target.items()}

    def networks(self) -> dict[str, arch_lib.Arch]:
        """All networks to train, by name: kind, target, number."""
        named = self.rivals()
        for search in self.searches():
            kind, _, seed = study.parts(search)
            for op, arch in self.searched(search).items():
                named[f"{kind}_{op}_{seed}" if op in TARGET_OPS else search] = arch
        named |= {f"searchfree_{op}_{seed}": arch for op, arch in self.search_free().items() for seed in range(SEEDS)}
        return {name: arch for name, arch in named.items() if self._chosen(name)}

    def _chosen(self, name: str) -> bool:
        """Whether the settings include a network or search."""
        kind, target, _ = study.parts(name)
        return kind in self._settings.kinds and (not target or target in self._settings.target_ops)

    def search_free(self) -> dict[str, arch_lib.Arch]:
        """For each target the best of a pool of random networks on the warmed-up supernet; empty before `rank`."""
        if not os.path.exists(self.path("pool.json")):
            return {}
        pool = files.read_json(self.path("pool.json"))
        return {op: arch_lib.Arch(self.space, min(scores, key=lambda score: score["loss"])["ops"])
                for op, scores in pool.items()}

    def train(self) -> None:
        """Trains all networks from scratch by the same recipe. The number of a network is also the seed.

        The networks with number 0 come first, so that a study that is stopped early has some of every kind.
        """
        archs = sorted(self.networks().items(), key=lambda item: int(item[0].rsplit("_", 1)[1]))
        self.train_all(dict(archs), [f"--epochs={self._settings.epochs}", *TRAIN])

    def time_all(self) -> None:
        """Times all networks, and MobileNetV2 of all widths that may be as slow as a target.

        If there are other networks than last time, all are timed again: times of another hour are not comparable.
        """
        widths, targets = files.read_json(self.path("widths.json")), self.targets().values()
        near = {width: study_networks.mobilenet_v2(self.space, float(width)) for width, ms in widths.items()
                if any(1 / WIDTHS_NEAR < ms / target < WIDTHS_NEAR for target in targets)}
        networks = self.networks()
        if os.path.exists(self.path("measured.json")):
            before = files.read_json(self.path("measured.json"))
            if before.keys() != networks.keys() and os.path.exists(self.path("times.jsonl")):
                os.replace(self.path("times.jsonl"), self.path("times_before.jsonl"))
        ms = self.timed(networks | near, "times.jsonl")
        self.write_json("widths.json", widths | {width: ms[width] for width in near})
        self.write_json("measured.json", {name: ms[name] for name in networks})

    def rank(self) -> None:
        """Scores networks of the space, and a pool at each target, with a warmed-up supernet's weights."""
        from pnas_tf import data

        loaded = data.load(self._data["dataset"], held_out_size=HELD_OUT, seed=0, data_dir=self._data.get("data_dir"),
                           normalisation=self.space.normalisation)
        warm_up = warm_supernet.WarmUp(self.path("warm.weights.h5"), self._settings.warmup_epochs, BATCH_SIZE, lr=0.2,
                                       seed=0)
        inherited_scores.write(self, loaded, warm_up, WITHOUT)


def _define_flags() -> None:
    study.define_flags(STAGES)
    flags.DEFINE_string("dataset", "cifar10", "Data set, as in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files.")
    flags.DEFINE_float("width_mult", Settings.width_mult, "Factor of all widths of the space.", 0.05, 20)
    flags.DEFINE_integer("epochs", Settings.epochs, "Epochs of each training.", 1)
    flags.DEFINE_multi_enum("target_op", list(TARGET_OPS), list(TARGET_OPS),
                            "Target at which networks are trained and compared, by the op of its uniform network; may "
                            "be repeated.")
    flags.DEFINE_multi_enum("kind", list(study_results.TRAINED), list(study_results.TRAINED),
                            "Kind of networks to train and compare; may be repeated.")
    flags.DEFINE_integer("warmup_epochs", Settings.warmup_epochs, "Warm-up epochs of each search.", 1)
    flags.DEFINE_integer("search_epochs", Settings.search_epochs, "Epochs of each search after the warm-up.", 1)


def _main() -> None:
    f = flags.FLAGS
    study.check_stages(f.stages, STAGES)
    data = {"dataset": f.dataset} | ({"data_dir": f.data_dir} if f.data_dir else {})
    start.load_tensorflow()
    settings = Settings(f.width_mult, f.epochs, f.warmup_epochs, f.search_epochs, f.target_op, f.kind)
    quality = Study(f.out_dir, data, f.workers, shlex.split(f.launcher), settings)
    study.run_stages({"table": quality.make_table, "search": quality.search, "rank": quality.rank,
                      "train": quality.train, "time": quality.time_all,
                      "results": lambda: print(study_results.write(quality))}, f.stages)


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
