"""Which statistic of short visits says the same each time? Times the same networks over and over, and compares.

    python -m benchmarks.time_statistics --space=cifar_mb --networks=24 --sessions=4 --rounds=100

In each session all networks are visited in turns, as in latency.compare and benchmarks.on_target. What all of them are
slower or faster by in a session is the pace of the machine; what is left are differences between networks that are
none, which is what a table and a search take for real.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

from pnas_tf.cli import start
from pnas_tf.space import blocks, spaces

# From the medians of visits, [..., rounds], to a time.
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "least": lambda ms: ms.min(-1), "lowest tenth": lambda ms: np.quantile(ms, 0.1, -1),
    "lower quartile": lambda ms: np.quantile(ms, 0.25, -1), "median": lambda ms: np.median(ms, -1),
    "mean": lambda ms: ms.mean(-1)}
ROUNDS = (6, 20, 40)


def sessions(space: blocks.Space, networks: int, count: int, rounds: int, runs: int) -> np.ndarray:
    """Medians of visits in ms, [sessions, networks, rounds]: of random networks, every op equally likely."""
    from export import convert, timed_runs, timing
    from latency import measure

    visit = timed_runs.here(runtime="litert", threads=1, delegate="xnnpack", runs=runs)
    with tempfile.TemporaryDirectory(prefix="pnas_tf-") as folder:
        paths = []
        for number, arch in enumerate(measure.random_archs(space, networks)):
            paths.append(os.path.join(folder, f"{number}.tflite"))
            with open(paths[-1], "wb") as file:
                file.write(convert.to_time(measure.network_build(arch)(), "float32"))
        found = []
        for number in range(count):
            samples = dict(timing.spread_out(paths, rounds, visit, len(paths), seed=number))
            found.append([np.median(samples[path], axis=1) for path in paths])
            print(f"session {number + 1} of {count}", flush=True)
    return np.array(found)


def spread(times: np.ndarray) -> tuple[np.ndarray, float, float]:
    """What times of the same networks differ by.

    Args:
        times: ms [sessions, networks].

    Returns:
        The pace of each session less 1 (median over networks of its time / the network's mean over sessions), and of
        what is left of the relative differences the standard deviation and the largest one.
    """
    relative = np.log(times) - np.log(times).mean(0)
    pace = np.median(relative, axis=1)
    left = relative - pace[:, None]
    freedom = (len(times) - 1) / len(times)  # a mean over sessions was taken off
    return np.expm1(pace), float(np.sqrt(np.mean(left**2) / freedom)), float(np.abs(left).max())


def table(visited: np.ndarray, counts: Sequence[int]) -> str:
    """Markdown: spread by statistic, for the first so many rounds of each session."""
    lines = ["| rounds | statistic | pace of the sessions, % | left, sd | left, worst |",
             "| --- | --- | --- | --- | --- |"]
    for count, (name, statistic) in itertools.product(counts, STATISTICS.items()):
        pace, deviation, worst = spread(statistic(visited[..., :count]))
        lines.append(f"| {count} | {name} | {', '.join(f'{100 * one:+.1f}' for one in pace)} | {deviation:.2%} | "
                     f"{worst:.1%} |")
    return "\n".join(lines)


def _main() -> None:
    f = flags.FLAGS
    start.load_tensorflow()
    counts = [count for count in ROUNDS if count < f.rounds] + [f.rounds]
    print(table(sessions(spaces.load(f.space), f.networks, f.sessions, f.rounds, f.runs), counts))


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("space", "cifar_mb", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_integer("networks", 24, "Random networks.", 2)
    flags.DEFINE_integer("sessions", 4, "Times that all are timed.", 2)
    flags.DEFINE_integer("rounds", 100, "Visits of each network in a session.", 1)
    flags.DEFINE_integer("runs", 3, "Timed runs of a visit.", 1)
    start.start(_main)


if __name__ == "__main__":
    main()
