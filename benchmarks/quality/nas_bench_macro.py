"""Is the delivered network the best within its milliseconds? Judged by NAS-Bench-Macro, whose accuracies are published.

    python -m benchmarks.quality.nas_bench_macro --truth=nas-bench-macro_cifar10.json --data_dir=DIR --output=runs/macro

All 6,561 networks of the space were trained alone by its authors. The truth is data/nas-bench-macro_cifar10.json of
github.com/xiusu/NAS-Bench-Macro (Apache-2.0; Su et al., CVPR 2021). The supernet of each seed is that of one
`pnas_tf.search` on CIFAR-10 with maps of half the side, for 8 targets over the range of a table of this machine. On the
same supernet, networks are then chosen in other ways, and for targets of tables with made-up prices:

    milliseconds = MACs^a * lognormal(0, 0.5)        a is 0, 0.5 or 1

Each step runs once: the benchmark can be stopped and started again at any time. results.jsonl has a line for each
choice, results.md the means, and trade_off.svg the plot.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.quality import macro_evolution, macro_methods, macro_results, macro_truth
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, prices, within_limits
from pnas_tf.cost.goal import Goal
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder

HALF = "nas_bench_macro_half"
TARGETS = 8
# Shares of all networks within a target: from the smallest target to the largest.
QUANTILES = (0.1, 0.95)
# Exponents of MACs in made-up tables; the number is also the seed of the prices.
MADE_UP = {11: 0.0, 12: 0.5, 13: 1.0, 14: 0.0, 15: 1.0}
BATCH_SIZE = 96
SEARCH = ("--share=kernels", f"--batch_size={BATCH_SIZE}", "--warmup_epochs=9", "--search_epochs=3", "--arch_every=1",
          "--warmup_lr=0.2", "--lr=0.05", "--held_out_size=5000")
# Random networks whose inherited losses are scored one by one, and batches of a loss.
INHERITED, LOSS_BATCHES = 1000, 3


@dataclasses.dataclass(frozen=True)
class Table:
    """Prices of the space, and the targets over their range.

    Attributes:
        name: Name of the table.
        ms: Price of each op.
        targets: Milliseconds, ascending.
    """

    name: str
    ms: prices.Cost
    targets: tuple[float, ...]

    @staticmethod
    def of(name: str, ms: prices.Cost, truth: macro_truth.Truth) -> "Table":
        """The table with targets at even quantiles of the milliseconds of all networks."""
        costs = ms.of_paths(truth.paths)
        return Table(name, ms, tuple(float(f"{np.quantile(costs, share):.4g}")
                                     for share in np.linspace(*QUANTILES, TARGETS)))


def made_up(of_space, truth: macro_truth.Truth) -> Iterator[Table]:
    """Tables of made-up prices, with seeds that no setting was chosen by."""
    macs = prices.matrix(of_space, prices.macs())
    for seed, exponent in MADE_UP.items():
        rng = np.random.default_rng(seed)
        drawn = rng.lognormal(0, 0.5, macs.matrix.shape)
        matrix = np.where(macs.matrix > 0, (macs.matrix / 1e6) ** exponent * drawn, 0)
        cost = prices.Cost(matrix.astype(np.float32), (macs.fixed / 1e6) ** exponent, macs.mask)
        yield Table.of(f"made_up_{seed}", cost, truth)


class Benchmark:
    """The files of the benchmark, and its steps."""

    def __init__(self, output: str, truth_file: str, data: Sequence[str], more: Sequence[str] = ()):
        """Reads the truth.

        Args:
            output: Folder of the benchmark.
            truth_file: Path of the published file.
            data: Flags that name the data set.
            more: Further flags of the searches.
        """
        self._output, self._data, self._more = output, list(data), list(more)
        self.space = macro_truth.space(HALF)
        self.truth = macro_truth.read(truth_file, self.space)
        self.log = self.path("results.jsonl")
        os.makedirs(output, exist_ok=True)

    def path(self, *names: str) -> str:
        """Path of a file or folder of the benchmark."""
        return os.path.join(self._output, *names)

    def check_counts(self) -> str:
        """Compares parameters and MACs of all networks with the published numbers.

        Raises:
            InputError: If they differ.
        """
        params, macs = macro_truth.largest_difference(self.truth, macro_truth.space())
        if params or macs:
            raise InputError(f"The networks differ from the published ones by up to {params:,} parameters and {macs:,} "
                             "MACs.")
        return f"Parameters and MACs of all {len(self.truth.paths):,} networks are the published ones."

    def host_table(self, dtype: str = "float32") -> Table:
        """The table of this machine for a number format, measured once."""
        suffix = "" if dtype == "float32" else f"_{dtype}"
        file, done = self.path(f"host{suffix}.jsonl"), self.path("logs", f"table{suffix}.done")
        if not os.path.exists(done):
            steps.command("latency.build_table", [f"--space={self._space_file()}", "--measurer=host",
                                                  f"--dtype={dtype}", f"--output={file}"],
                          self.path("logs", f"table{suffix}.log"))
            files.write_text(done, "")
        table = latency_table.read(file)
        return Table.of(table.target, prices.matrix(self.space, prices.milliseconds(table)), self.truth)

    def search(self, seed: int, table: Table) -> RunFolder:
        """The search of a seed for all targets of the host's table; resumes an earlier one.

        Raises:
            InputError: If the search fails.
        """
        folder = RunFolder(self.path(f"seed_{seed}"))
        done = self.path("logs", f"seed_{seed}.json")
        if not os.path.exists(done):
            targets = ",".join(f"{self.path('host.jsonl')}:{target:g}" for target in table.targets)
            used = steps.command("pnas_tf.search", [
                f"--space={self._space_file()}", *self._data, f"--targets={targets}", *SEARCH, f"--seed={seed}",
                f"--run_dir={folder}", *self._more], self.path("logs", f"seed_{seed}.log"))
            files.write_text(done, json.dumps(used) + "\n")
        return folder

    def judge(self, seed: int, table: Table, folder: RunFolder) -> None:
        """Appends the choices of a search, and other choices on its supernet, to the log, unless they are there."""
        rows = files.read_lines(self.log)
        if not any(row["seed"] == seed for row in rows):
            rows += self._choices(seed, table, folder)  # all of a seed at once, or none of it
            files.write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))

    def _space_file(self) -> str:
        return os.path.join(os.path.dirname(macro_truth.__file__), f"{HALF}.json")

    def _choices(self, seed: int, table: Table, folder: RunFolder) -> list[dict[str, Any]]:
        """One row for each way to choose, table and target; and a row on how the supernet ranks networks."""
        from pnas_tf import data as data_lib
        from pnas_tf.derive import deliver
        from pnas_tf.derive.pool import Pool
        from pnas_tf.derive.scores import Scores
        from pnas_tf.run_folder.folder import data_arguments
        from pnas_tf.search import checkpoints
        from pnas_tf.space.blocks import uniform_probs
        from pnas_tf.supernet import supernet
        from pnas_tf.supernet.path_scorer import PathScorer

        supernet.set_graph_optimiser(False)
        data = data_lib.load(**data_arguments(folder.path), image_size=self.space.input_size)
        net = supernet.Supernet(self.space.fitted_to(data), seed, goals=len(table.targets), share="kernels")
        checkpoints.into_supernet(net, folder)
        count = deliver.batches(data.image_shape, BATCH_SIZE, data.held_out.size)
        scorer = PathScorer(net, data.held_out.batches(BATCH_SIZE).take(count))
        inherited = self._inherited(seed, scorer)
        rows = [{"seed": seed, "table": "", **macro_results.ranking(self.truth, *inherited),
                 "networks": len(inherited[0])}]
        scores = Scores(net.space, scorer)
        goals = [_goal(table, target_ms) for target_ms in table.targets]
        for number, goal in enumerate(goals):
            probs, target_ms = net.probs(number).numpy(), goal.target_ms
            chosen = {**_found(Pool(goal, probs, scores), seed),
                      "most probable within the limits": within_limits.most_probable(probs, goal.all_limits),
                      "arg-max": within_limits.most_probable(probs)}
            chosen["evolution by inherited loss"] = self._evolved(seed, table, target_ms, scorer, inherited)
            rows += self._rows(seed, table, target_ms, chosen, inherited)
        for name, count, each in macro_methods.learned(net, goals, data.held_out, BATCH_SIZE, seed):
            for goal, probs in zip(goals, each, strict=True):
                chosen = {f"alpha by {name}": within_limits.most_probable(probs, goal.all_limits)}
                rows += [{**row, "steps": count} for row in self._judged(seed, table, goal.target_ms, chosen)]
        rows.append({"seed": seed, "table": "effects", **macro_results.ranking(
            self.truth, self.truth.paths, scores.leaning.loss(self.truth.paths)), "networks": len(self.truth.paths)})
        even = uniform_probs(net.space).astype(np.float32)
        for other in (self.host_table("int8"), *made_up(self.space, self.truth)):
            for target_ms in other.targets:
                goal = _goal(other, target_ms)
                rows += self._rows(seed, other, target_ms, _found(Pool(goal, even, scores), seed), inherited)
        return rows

    def _inherited(self, seed: int, scorer) -> tuple[np.ndarray, np.ndarray]:
        """Random networks and their inherited losses, scored once and kept in a file."""
        file = self.path(f"inherited_{seed}.json")
        paths = np.random.default_rng(seed).permutation(self.truth.paths)[:INHERITED]
        if not os.path.exists(file):
            files.write_text(file, json.dumps([scorer.score(path, LOSS_BATCHES).loss for path in paths]) + "\n")
        return paths, np.array(files.read_json(file))

    def _evolved(self, seed, table, target_ms, scorer, inherited) -> np.ndarray | None:
        """The network that evolution by inherited loss finds within a target."""
        def fits(path):
            return table.ms.of_path(path) <= target_ms * (1 + 1e-9)

        counts = [len(block.ops) for block in self.space.choices.values()]
        random, losses = inherited
        return macro_evolution.evolve(random, losses, lambda path: scorer.score(path, LOSS_BATCHES).loss, fits, counts,
                                      seed)

    def _rows(self, seed, table, target_ms, chosen, inherited) -> list[dict[str, Any]]:
        """The chosen networks and the rivals that need no supernet, judged by the truth."""
        paths, losses = inherited
        fitting = np.flatnonzero(table.ms.of_paths(paths) <= target_ms)
        chosen = {**chosen, "most MACs": macro_truth.most_macs(self.truth, table.ms, target_ms),
                  "fewest skips, then most MACs": macro_truth.most_macs(self.truth, table.ms, target_ms, True,
                                                                        self.space)}
        if len(fitting):
            chosen["least inherited loss of all scored"] = paths[fitting[np.argmin(losses[fitting])]]
            first = fitting[:macro_truth.RANDOM]
            chosen["least inherited loss of 64 random"] = paths[first[np.argmin(losses[first])]]
        rows = self._judged(seed, table, target_ms, chosen)
        rows += [{"seed": seed, "table": table.name, "target_ms": target_ms, "way": "best of all, each trained once",
                  "regret": regret, "rank": rank}
                 for regret, rank in macro_truth.best_by_one_training(self.truth, table.ms, target_ms)]
        return rows + [{"seed": seed, "table": table.name, "target_ms": target_ms, "way": f"best of {count} trained",
                        "regret": macro_truth.best_of_random(self.truth, table.ms, target_ms, count,
                                                             self.truth.trainings[:, 0], seed)} for count in (4, 16)]

    def _judged(self, seed, table, target_ms, chosen) -> list[dict[str, Any]]:
        """Networks, by the way in which they were chosen, judged by the truth."""
        return [{"seed": seed, "table": table.name, "target_ms": target_ms, "way": way,
                 "path": "".join(map(str, path)), "ms": table.ms.of_path(path),
                 "accuracy": float(self.truth.accuracy[self.truth.of(path)]),
                 "regret": self.truth.regret(path, table.ms, target_ms),
                 "rank": self.truth.rank(path, table.ms, target_ms)}
                for way, path in chosen.items() if path is not None]


def _found(pool, seed) -> dict[str, np.ndarray]:
    """What a search chooses from a pool: the network of least expected loss, and the quickest that is as good."""
    from pnas_tf.derive import front

    front.explore(pool, front.budgets(pool.goal, 8), seed)
    found = pool.finalists(pool.goal)
    return {name: front.ordered(pool, found, use_all_ms)[0].arch.path
            for name, use_all_ms in (("found", True), ("delivered", False))}


def _goal(table: Table, target_ms: float) -> Goal:
    return Goal(table.name, table.ms, target_ms, range_ms=table.ms.range)


def _main() -> None:
    f = flags.FLAGS
    if not f.truth or not f.output:
        raise InputError("Name the published file by --truth=FILE and a folder by --output=DIR.")
    benchmark = Benchmark(f.output, f.truth, [f"--dataset={f.dataset}", *([f"--data_dir={f.data_dir}"] if f.data_dir
                                                                          else [])], f.search_more.split())
    start.load_tensorflow()
    print(benchmark.check_counts(), flush=True)
    table = benchmark.host_table()
    for seed in map(int, f.seeds):
        print(f"Seed {seed}: search.", flush=True)
        folder = benchmark.search(seed, table)
        print(f"Seed {seed}: other choices on the same supernet.", flush=True)
        benchmark.judge(seed, table, folder)
        print(macro_results.write(f.output, files.read_lines(benchmark.log), benchmark.truth, table.ms), flush=True)


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("truth", None, "Published file: data/nas-bench-macro_cifar10.json.")
    flags.DEFINE_string("output", None, "Folder of the results.")
    flags.DEFINE_string("dataset", "cifar10", "Data set of the searches.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the searches.")
    flags.DEFINE_string("search_more", "", "Further flags of the searches, such as --max_steps=20 for a trial.")
    start.start(_main)


if __name__ == "__main__":
    main()
