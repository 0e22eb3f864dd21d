"""Does search pay? Networks found against random, uniform and scaled ones at equal latency, all trained alike.

    python -m benchmarks.search_quality --dataset=cifar10 --data_dir=DIR --out_dir=runs/search_quality --stages=table
    python -m benchmarks.search_quality --dataset=cifar10 --data_dir=DIR --out_dir=runs/search_quality
    python -m benchmarks.search_quality --out_dir=runs/search_quality --stages=results

Everything is kept in --out_dir, a folder a search or training, and what is there is not done again: stop it and start
it again as you like. Stages: `table` builds and calibrates the latency table and times MobileNetV2 of many widths
(leave the machine alone meanwhile); `search` and `train` run --workers processes at a time, of one core each; `rank`
scores networks with weights inherited from a warmed-up supernet; `time` times all trained networks (alone again);
`results` draws and tells. MobileNetV2 is compared at equal measured milliseconds: once the networks found are timed,
its width is the one that took as long as they at that time, so run `train`, `time` and `results` once more.
"""

import json
import os
import shlex
from collections.abc import Collection, Sequence

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.quality import study, study_networks, study_results
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.space import arch as arch_lib

STAGES = ("table", "search", "rank", "train", "time", "results")
# The uniform networks whose milliseconds are the two targets.
TARGET_OPS = ("mb_k5_e3", "mb_k5_e6")
SEEDS, RANDOM, POOL = 3, 8, 64
BATCH_SIZE, HELD_OUT = 96, 5000
SEARCH = (f"--batch_size={BATCH_SIZE}", "--warmup_lr=0.2", "--lr=0.08", "--arch_every=1", f"--held_out_size={HELD_OUT}")
TRAIN = (f"--batch_size={BATCH_SIZE}", "--lr=0.1", "--weight_decay=1e-4")
TRIALS, TRIAL_EPOCHS = 6, 2
# Of a search for one target that begins with the weights of the search for both: epochs, trials, epochs of each.
LONGER_EPOCHS, LONGER_TRIALS, LONGER_TRIAL_EPOCHS = 5, 2, 5
# What networks are called that trials have chosen, by the kind of their search.
WITH_TRIALS = {"gradient": "trials", "longer": "longertrials"}
RANK_BATCHES = 20
# All networks in turns, many short visits: the machine changes its pace.
VISITS = {"rounds": 60, "runs": 3}
# MobileNetV2's of less than so many times a target, and more than one part of it, are timed along with the networks.
WIDTHS_NEAR = 1.5
# Over the whole range, as searches go to its cheap end; all in turns, for a machine that changes its pace.
COMPARE = ("--networks=30", "--calibrate=70", "--over_range", "--together=100", "--rounds=30", "--runs=3")


class Study(study.Study):
    """The study of search quality: its networks, and its stages."""

    def __init__(self, out_dir: str, width_mult: float, data: dict[str, str], epochs: int,
                 search_epochs: tuple[int, int], workers: int, launcher: list[str],
                 target_ops: Sequence[str] = TARGET_OPS, kinds: Collection[str] = tuple(study_results.KINDS)):
        super().__init__(out_dir, data, workers, launcher)
        self._data, self._epochs, self._search_epochs = data, epochs, search_epochs
        self._target_ops, self._kinds = target_ops, kinds
        self.space = study_networks.study_space(width_mult)
        self.table_path = self.path("host.jsonl")
        self._write("space.json", self.space.to_json())

    def table(self) -> latency_table.LatencyTable:
        return latency_table.read(self.table_path)

    def targets(self) -> dict[str, float]:
        """Milliseconds of each target, by its uniform network's op: that network keeps it."""
        from pnas_tf.cost import prices

        price = prices.milliseconds(self.table())
        return {op: steps.rounded_up(prices.of_arch(study_networks.uniform(self.space, op), price), 5)
                for op in TARGET_OPS}

    def make_table(self) -> None:
        """Builds and calibrates the table, and times MobileNetV2 of many widths."""
        where = [f"--space={self.path('space.json')}"]
        self.run("latency.build_table", ["--measurer=host", *where, f"--output={self.table_path}"], "table.log")
        self.run("latency.compare", [f"--table={self.table_path}", *where, *COMPARE], "compare.log")
        widths = study_networks.distinct({f"{width:.2f}": study_networks.mobilenet_v2(self.space, width)
                                          for width in np.arange(0.3, 2.5, 0.05)})
        self._write("widths.json", self.timed(widths, "widths.jsonl"))

    def timed(self, archs: dict[str, arch_lib.Arch], file: str) -> dict[str, float]:
        """Measured milliseconds of networks on the table's target, all in turns, twice apart: the mean.

        They stand on their own, so it does not matter by what statistic the table's were.

        Args:
            archs: by name.
            file: of the study, that keeps times.
        """
        from export import timing
        from latency import measure, timed_networks

        header = {**self.table().header, **VISITS, "together": len(archs), "statistic": timing.STATISTIC}
        device = measure.from_header(header, self.table_path)
        wanted = [(arch, number) for number in (1, 2) for arch in archs.values()]
        ms = timed_networks.measured(self.path(file), device, wanted)
        return {name: float(np.mean([ms[timed_networks.digest(arch), number] for number in (1, 2)]))
                for name, arch in archs.items()}

    def _write(self, file, value):
        files.write_text(self.path(file), json.dumps(value, indent=1) + "\n")

    def searches(self) -> dict[str, list[str]]:
        """Flags of each search, by its folder: kind, target if it is for one alone, seed."""
        warmup, epochs = self._search_epochs
        where = [f"--space={self.path('space.json')}", *self.data_flags, *SEARCH]
        common = [*where, f"--warmup_epochs={warmup}", f"--search_epochs={epochs}"]
        both = "--targets=" + ",".join(f"{self.table_path}:{ms}" for ms in self.targets().values())
        trials = (f"--trials={TRIALS}", f"--trial_epochs={TRIAL_EPOCHS}")
        found = {f"gradient_{seed}": [*common, both, *trials, f"--seed={seed}"] for seed in range(SEEDS)}
        found |= {f"reinforce_{seed}": [*common, both, "--arch_update=reinforce", "--arch_every=3", f"--seed={seed}"]
                  for seed in range(SEEDS)}
        for op, ms in self.targets().items():
            found |= {f"longer_{op}_{seed}": [*where, "--warmup_epochs=0", f"--search_epochs={LONGER_EPOCHS}",
                                              f"--table={self.table_path}", f"--target_ms={ms}", f"--seed={seed}",
                                              f"--trials={LONGER_TRIALS}", f"--trial_epochs={LONGER_TRIAL_EPOCHS}",
                                              f"--init_weights={self.path('searches', f'gradient_{seed}')}"]
                      for seed in range(SEEDS)}
        found["unaware_0"] = [*common, f"--table={self.table_path}", "--latency_loss=none", "--seed=0"]
        return found

    def search(self) -> None:
        """Runs the searches."""
        wanted = {f"searches/{name}": more for name, more in self.searches().items() if self._wanted(name)}
        self.run_all("pnas_tf.search", wanted, lambda folder: self.found(os.path.basename(folder)))

    def goal_folders(self, search: str) -> dict[str, str]:
        """Where a search leaves its networks, by target: folders of the study."""
        folder, (kind, target, _) = os.path.join("searches", search), study.parts(search)
        if kind == "unaware":
            return {"unaware": folder}
        if target:
            return {target: folder}
        return {op: os.path.join(folder, goals_lib.goal_name(self.table().target, ms))
                for op, ms in self.targets().items()}

    def found(self, search: str) -> dict[str, dict[str, arch_lib.Arch]]:
        """The networks of a search that has ended; nothing before.

        Returns:
            By target: the network `delivered` and, of all within the limits, the one of least `loss` on the supernet,
            which is delivered where there are no trials.
        """
        folders = self.goal_folders(search)
        if not all(self.search_ended(folder) for folder in folders.values()):
            return {}
        return {op: {"delivered": arch_lib.load(self.path(folder, "arch.json")), "loss": self._least_loss(folder)}
                for op, folder in folders.items()}

    def _least_loss(self, folder):
        finalists = files.read_json(self.path(folder, "finalists.json"))["finalists"]
        best = min((one for one in finalists if one["eligible"] and "loss" in one), key=lambda one: one["loss"])
        return arch_lib.Arch(self.space, best["ops"])

    def search_seconds(self) -> float | None:
        """Wall-clock seconds that a search takes for one target, its trials too; None before the first has ended."""
        seconds = steps.search_seconds(self.path("searches", "gradient_0"))
        if seconds is None or not self.found("gradient_0"):
            return None
        trials = [files.read_json(self.path(folder, "trials", str(number), "train.json"))["seconds"]
                  for folder in self.goal_folders("gradient_0").values() for number in range(TRIALS)]
        return (seconds + sum(trials)) / len(TARGET_OPS)

    def _limits(self):
        """By target, what a network may take."""
        from pnas_tf.cost import limits, prices

        ms = prices.matrix(self.space, prices.milliseconds(self.table()))
        return {op: limits.Limit("ms", ms, target_ms) for op, target_ms in self.targets().items()}

    def rivals(self) -> dict[str, arch_lib.Arch]:
        """What a search has to beat, by the name of its training."""
        from pnas_tf.cost import prices, within_limits

        widths, measured, named = files.read_json(self.path("widths.json")), self._found_ms(), {}
        macs = prices.matrix(self.space, prices.macs())
        for op, limit in self._limits().items():
            for number, arch in enumerate(study_networks.random_within(self.space, limit, RANDOM, seed=1)):
                named[f"random_{op}_{number}"] = arch
            width = float(study_networks.nearest(widths, measured.get(op, limit.bound)))
            kinds = {"uniform": study_networks.uniform(self.space, op),
                     "mobilenetv2": study_networks.mobilenet_v2(self.space, width),
                     "mostmacs": within_limits.most_of(self.space, macs, [limit], within_limits.USED_SHARE)}
            named |= {f"{kind}_{op}_{seed}": arch for kind, arch in kinds.items() for seed in range(SEEDS)}
        named["biggest_0"] = study_networks.uniform(self.space, "mb_k7_e6")
        return named

    def _found_ms(self):
        """By target, what the networks found took when they were timed, on average; empty before."""
        if not os.path.exists(self.path("measured.json")):
            return {}
        found: dict[str, list[float]] = {}
        for name, ms in files.read_json(self.path("measured.json")).items():
            kind, op, _ = study.parts(name)
            if kind in study_results.FOUND:
                found.setdefault(op, []).append(ms)
        return {op: float(np.mean(ms)) for op, ms in found.items()}

    def networks(self) -> dict[str, arch_lib.Arch]:
        """Everything that is trained, by name: kind, target, number."""
        named = self.rivals()
        for search in self.searches():
            kind, _, seed = study.parts(search)
            for op, arch in self.found(search).items():
                if op not in TARGET_OPS:
                    named[search] = arch["delivered"]
                    continue
                named[f"{kind}_{op}_{seed}"] = arch["loss"]
                if kind in WITH_TRIALS:
                    named[f"{WITH_TRIALS[kind]}_{op}_{seed}"] = arch["delivered"]
        named |= {f"searchfree_{op}_{seed}": arch for op, arch in self.search_free().items() for seed in range(SEEDS)}
        return {name: arch for name, arch in named.items() if self._wanted(name)}

    def _wanted(self, name: str) -> bool:
        kind, target, _ = study.parts(name)
        return kind in self._kinds and (not target or target in self._target_ops)

    def search_free(self) -> dict[str, arch_lib.Arch]:
        """For each target the best of a pool of random networks on the warmed-up supernet; empty before `rank`."""
        if not os.path.exists(self.path("pool.json")):
            return {}
        pool = files.read_json(self.path("pool.json"))
        return {op: arch_lib.Arch(self.space, min(scores, key=lambda one: one["loss"])["ops"])
                for op, scores in pool.items()}

    def train(self) -> None:
        """Trains every network there is, from scratch, by the same recipe; a number is also its seed.

        By number, so that a study that is stopped early has some of every kind.
        """
        archs = sorted(self.networks().items(), key=lambda item: int(item[0].rsplit("_", 1)[1]))
        self.train_all(dict(archs), [f"--epochs={self._epochs}", *TRAIN])

    def time_all(self) -> None:
        """Times everything that was trained, and MobileNetV2 of all widths that may be its equal.

        All anew if there is more to time than last time: times of another hour are not to be compared with these.
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
        self._write("widths.json", widths | {width: ms[width] for width in near})
        self._write("measured.json", {name: ms[name] for name in networks})

    def rank(self) -> None:
        """Scores trained networks of the space, and a pool at each target, with a warmed-up supernet's weights."""
        from benchmarks.speed import warm_supernet
        from pnas_tf import data
        from pnas_tf.network import evaluate
        from pnas_tf.supernet import path_scorer, supernet

        supernet.set_graph_optimiser(False)
        loaded = data.load(self._data["dataset"], held_out_size=HELD_OUT, seed=0, data_dir=self._data.get("data_dir"))
        net = warm_supernet.warmed(self.space, loaded, file=self.path("warm.weights.h5"), epochs=self._search_epochs[0],
                                   batch_size=BATCH_SIZE, lr=0.2, seed=0)
        scorer = path_scorer.PathScorer(net, loaded.held_out.batches(250).take(RANK_BATCHES))

        scores: dict[bytes, evaluate.Score] = {}  # one network has several names, a seed each

        def score(arch):
            path = net.path(arch)
            if path.tobytes() not in scores:
                scores[path.tobytes()] = scorer.score(path)
            found = scores[path.tobytes()]
            return {"ops": arch.ops, "loss": found.loss, "accuracy": found.accuracy}

        if not os.path.exists(self.path("pool.json")):
            self._write("pool.json", {op: [score(arch) for arch in study_networks.random_within(self.space, limit, POOL,
                                                                                                seed=2)]
                                      for op, limit in self._limits().items()})
        known = self.path("inherited.json")
        ranked = files.read_json(known) if os.path.exists(known) else {}
        for name, arch in self.networks().items():
            if arch.space.name == self.space.name and ranked.get(name, {}).get("ops") != arch.ops:
                ranked[name] = score(arch)
        self._write("inherited.json", ranked)


def _define_flags() -> None:
    study.define_flags(STAGES)
    flags.DEFINE_string("dataset", "cifar10", "As of pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Where its files are.")
    flags.DEFINE_float("width_mult", 0.75, "Of the space.", 0.05, 20)
    flags.DEFINE_integer("epochs", 4, "Of training.", 1)
    flags.DEFINE_multi_enum("target_op", list(TARGET_OPS), list(TARGET_OPS),
                            "Of the targets at which networks are trained and compared, by the op of their uniform "
                            "network; may be repeated.")
    flags.DEFINE_multi_enum("kind", list(study_results.KINDS), list(study_results.KINDS),
                            "Of networks to train and compare; may be repeated.")
    flags.DEFINE_integer("warmup_epochs", 6, "Of each search.", 1)
    flags.DEFINE_integer("search_epochs", 3, "Of each search.", 1)


def _main() -> None:
    f = flags.FLAGS
    study.check_stages(f.stages, STAGES)
    data = {"dataset": f.dataset} | ({"data_dir": f.data_dir} if f.data_dir else {})
    start.load_tensorflow()
    quality = Study(f.out_dir, f.width_mult, data, f.epochs, (f.warmup_epochs, f.search_epochs), f.workers,
                    shlex.split(f.launcher), f.target_op, f.kind)
    study.run_stages({"table": quality.make_table, "search": quality.search, "rank": quality.rank,
                      "train": quality.train, "time": quality.time_all,
                      "results": lambda: print(study_results.write(quality))}, f.stages)


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
