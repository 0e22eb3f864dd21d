"""Do searched tree cells pay on CIFAR-10? Compares searched networks with random ones and a plain PyramidNet.

    python -m benchmarks.quality.tree_search --data_dir=DIR --out_dir=runs/tree
    python -m benchmarks.quality.tree_search --data_dir=DIR --out_dir=runs/tree --updates=gradient --searches=4

Searches with cifar10_small.flags, by gradients and by REINFORCE. Then it trains alike the searched networks,
random networks of the space, and the PyramidNet without cells that has as many parameters. Everything is kept in
--out_dir, and no step is done twice. Writes results.json, results.md and tree_search.svg.
"""

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.quality import study, study_results
from pnas_tf import files
from pnas_tf.cli import flag_files, start
from pnas_tf.errors import InputError
from pnas_tf.report import figure_file
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.space import spaces, tree_cells
from pnas_tf.space.arch import Arch

FLAG_FILE = "cifar10_small.flags"
UPDATES = {"gradient": (), "reinforce": ("--arch_update=reinforce", "--arch_every=3")}
# Trainings of each network, and number of random networks.
SEEDS, RANDOM = 2, 5
TRAIN = ("--batch_size=96", "--lr=0.1", "--weight_decay=1e-4", "--label_smoothing=0")
KINDS = {"gradient": "found, gradient", "reinforce": "found, REINFORCE", "random": "random",
         "plain": "plain PyramidNet"}
STAGES = ("search", "train", "results")


class TreeStudy(study.Study):
    """The study of tree cells: its networks, and its stages."""

    def __init__(self, out_dir: str, data: dict[str, str], workers: int, launcher: list[str], *, epochs: int,
                 search_flags: list[str], updates: Sequence[str] = tuple(UPDATES), searches: int = 2):
        """
        Args:
            out_dir: Folder of the study.
            data: Flags that name the data set, value by name.
            workers: Number of processes at a time, each on one core.
            launcher: Command that goes before each process, such as nice.
            epochs: Epochs of each training.
            search_flags: Further flags of the searches.
            updates: Updates of alpha to search with, keys of `UPDATES`.
            searches: Number of searches with each.
        """
        super().__init__(out_dir, data, workers, launcher)
        self._epochs, self._search_flags = epochs, search_flags
        self._searched = [(update, seed) for update in updates for seed in range(searches)]
        self.space = spaces.load(run_folder.read_flags(flag_files.path_of(FLAG_FILE))["space"])
        self._table = self.path("host.jsonl")

    def search(self) -> None:
        """Builds the latency table, and runs the searches."""
        self.run("latency.build_table", [f"--space={self.space.name}", f"--output={self._table}"], "table.log")
        self.run_all("pnas_tf.search", {os.path.join("searches", f"{kind}_{seed}"): [
            f"--flagfile={FLAG_FILE}", *self.data_flags, f"--table={self._table}", *UPDATES[kind], f"--seed={seed}",
            *self._search_flags] for kind, seed in self._searched}, self.search_ended)

    def networks(self) -> dict[str, Arch]:
        """All networks to train, by name: kind, number, seed."""
        rng = np.random.default_rng(1)
        archs = {}
        for kind, number in self._searched:
            if self.search_ended("searches", f"{kind}_{number}"):
                archs[f"{kind}_{number}"] = arch_lib.load(self.folder("searches", f"{kind}_{number}").arch)
        searched = list(archs.values())
        for number in range(RANDOM):
            archs[f"random_{number}"] = Arch(self.space, {name: str(rng.choice(block.ops))
                                                          for name, block in self.space.choices.items()})
        if searched:
            archs["plain_0"] = like_sized(searched, self.space)
        return {f"{name}_{seed}": arch for name, arch in archs.items() for seed in range(SEEDS)}

    def train(self) -> None:
        """Trains every network with each seed."""
        self.train_all(self.networks(), [f"--epochs={self._epochs}", *TRAIN])

    def rows(self) -> list[dict[str, Any]]:
        """Facts of every training that has ended: kind, network, seed, accuracy, params, macs, seconds, ops."""
        rows = []
        for name, arch in self.networks().items():
            path = self.folder(self.training(name, arch)).training_facts
            if os.path.exists(path):
                kind, number, seed = name.split("_")
                facts = files.read_json(path)
                rows.append({"kind": kind, "network": int(number), "seed": int(seed),
                             "accuracy": facts["test_accuracy"], "ops": arch.ops,
                             **{field: facts[field] for field in ("params", "macs", "seconds")}})
        return rows

    def results(self) -> None:
        """Writes and prints the results of the trainings that have ended."""
        rows = self.rows()
        text = show(rows) if rows else "Nothing is trained yet."
        seconds = {name: steps.search_seconds(self.path("searches", name))
                   for name in (f"{kind}_{seed}" for kind, seed in self._searched)}
        text += "".join(f"\n- search {name}: {value:.0f} s" for name, value in seconds.items() if value is not None)
        files.write_text(self.path("results.json"), json.dumps(rows, indent=1) + "\n")
        files.write_text(self.path("results.md"), text + "\n")
        files.write_text(self.path("tree_search.svg"), plot(rows))
        print(text)


def like_sized(archs: list[Arch], space: blocks_lib.Space) -> Arch:
    """The PyramidNet without cells whose number of parameters is nearest to the mean of some networks.

    Args:
        archs: Networks of the space.
        space: Space whose blocks, images and classes the PyramidNet takes over.
    """
    from pnas_tf.cost import prices

    mean_params = np.mean([prices.of_arch(arch, prices.params()) for arch in archs])
    blocks = sum(1 for block in space.blocks if block.ops == ("join",)) // tree_cells.STAGES
    stem = space.stem[0].strides
    plain = [Arch(tree_cells.plain(f"pyramid_b{blocks}_f{filters}", blocks, filters, stem_strides=stem,
                                   num_classes=space.num_classes), {}) for filters in range(72, 808, 8)]
    return min(plain, key=lambda arch: abs(prices.of_arch(arch, prices.params()) - mean_params))


def show(rows: list[dict[str, Any]]) -> str:
    """Accuracy of each kind, and the gains of the searched networks, as Markdown.

    Args:
        rows: Trainings, from `TreeStudy.rows`. A network counts once, with the mean over its seeds.
    """
    lines = ["| networks | trained | test accuracy, % | sd of networks | parameters | MACs |",
             "| --- | --- | --- | --- | --- | --- |"]
    for kind, label in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if own:
            means = 100 * by_network(rows, kind)
            spread = f"{np.std(means, ddof=1):.2f}" if len(means) > 1 else ""
            params, macs = (np.mean([row[field] for row in own]) for field in ("params", "macs"))
            lines.append(f"| {label} | {len(means)} x {len(own) / len(means):.0f} | {means.mean():.2f} | {spread} | "
                         f"{params:,.0f} | {macs:,.0f} |")
    lines.append("")
    for kind in UPDATES:
        for rival in ("random", "plain"):
            first, second = by_network(rows, kind), by_network(rows, rival)
            if len(first) and len(second):
                lines.append(f"- {KINDS[kind]}, against {KINDS[rival]}: {study_results.gain(first, second)}")
    return "\n".join(lines)


def by_network(rows: list[dict[str, Any]], kind: str) -> np.ndarray:
    """Mean accuracy of each network of a kind over its seeds.

    Args:
        rows: Trainings, from `TreeStudy.rows`.
        kind: Kind of networks, of `KINDS`.

    Returns:
        Accuracies, float64 [networks].
    """
    numbers = sorted({row["network"] for row in rows if row["kind"] == kind})
    return np.array([np.mean([row["accuracy"] for row in rows if (row["kind"], row["network"]) == (kind, number)])
                     for number in numbers])


def plot(rows: list[dict[str, Any]]) -> str:
    """Accuracy against parameters, with a point for each training, as an SVG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    styles = {"gradient": ("D", "#c05621"), "reinforce": ("s", "#86377b"), "random": ("o", "#64707d"),
              "plain": ("X", "#000000")}
    with rc_context(figure_file.STYLE):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        for kind, label in KINDS.items():
            own = [row for row in rows if row["kind"] == kind]
            marker, color = styles[kind]
            if own:
                axes.plot([row["params"] for row in own], [100 * row["accuracy"] for row in own], marker, color=color,
                          markersize=6, alpha=0.75, label=label, linestyle="")
        axes.set(xlabel="parameters", ylabel="CIFAR-10 test accuracy, %")
        axes.grid(alpha=0.3)
        if rows:
            axes.legend(frameon=False, fontsize=8)
        return figure_file.as_svg(figure)


def _define_flags() -> None:
    study.define_flags(STAGES)
    flags.DEFINE_string("data_dir", None, "Folder of CIFAR-10's files.", required=True)
    flags.DEFINE_integer("epochs", 6, "Epochs of each training.", 1)
    flags.DEFINE_list("updates", list(UPDATES), "Updates of alpha to search with.")
    flags.DEFINE_integer("searches", 2, "Searches with each update.", 1)
    flags.DEFINE_string("search_more", "", "Further flags of the searches, such as --max_steps=20 for a trial.")


def _main() -> None:
    f = flags.FLAGS
    study.check_stages(f.stages, STAGES)
    if unknown := sorted(set(f.updates) - set(UPDATES)):
        raise InputError(f"--updates: expected {' and '.join(UPDATES)}, got {', '.join(unknown)}.")
    start.load_tensorflow()
    trees = TreeStudy(f.out_dir, {"dataset": "cifar10", "data_dir": f.data_dir}, f.workers, shlex.split(f.launcher),
                      epochs=f.epochs, search_flags=shlex.split(f.search_more), updates=f.updates, searches=f.searches)
    study.run_stages({"search": trees.search, "train": trees.train, "results": trees.results}, f.stages)


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
