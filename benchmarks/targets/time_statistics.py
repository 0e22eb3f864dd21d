"""Which statistic of short visits is the steadiest? Times the same networks again and again, and compares statistics.

    python -m benchmarks.targets.time_statistics --space=cifar_mb --networks=24 --sessions=4 --rounds=100

In each session all networks are visited in turns, as in latency.compare and benchmarks.targets.on_target. The pace of a
session is how much slower or faster all networks are in it. The differences that are left are errors of measurement,
which a table or a search takes for differences between networks.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

from pnas_tf.cli import start
from pnas_tf.space import blocks, spaces

# Functions from the medians of visits, [..., rounds], to one time, [...].
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "least": lambda ms: ms.min(-1), "lowest tenth": lambda ms: np.quantile(ms, 0.1, -1),
    "lower quartile": lambda ms: np.quantile(ms, 0.25, -1), "median": lambda ms: np.median(ms, -1),
    "mean": lambda ms: ms.mean(-1)}
ROUNDS = (6, 20, 40)


def sessions(space: blocks.Space, networks: int, count: int, rounds: int, runs: int) -> np.ndarray:
    """Times random networks, in which every op is equally likely.

    Args:
        space: Space of the networks.
        networks: Number of networks.
        count: Number of sessions.
        rounds: Visits of each network in a session.
        runs: Timed runs of a visit.

    Returns:
        Medians of visits in milliseconds, float64 [sessions, networks, rounds].
    """
    from export import convert, timed_runs, timing
    from latency import measure

    visit = timed_runs.here(runtime="litert", threads=1, delegate="xnnpack", runs=runs)
    with tempfile.TemporaryDirectory(prefix="pnas_tf-") as folder:
        paths = []
        for number, arch in enumerate(measure.random_archs(space, networks)):
            paths.append(os.path.join(folder, f"{number}.tflite"))
            with open(paths[-1], "wb") as file:
                file.write(convert.to_time(measure.network_build(arch)(), "float32"))
        medians = []
        for number in range(count):
            samples = dict(timing.spread_out(paths, rounds, visit, len(paths), seed=number))
            medians.append([np.median(samples[path], axis=1) for path in paths])
            print(f"session {number + 1} of {count}", flush=True)
    return np.array(medians)


def spread(times: np.ndarray) -> tuple[np.ndarray, float, float]:
    """How much times of the same networks differ between sessions.

        relative = log(times) - mean over sessions of log(times)
        pace = median over networks of relative
        left = relative - pace

    Args:
        times: Milliseconds, float64 [sessions, networks].

    Returns:
        exp(pace) - 1 of each session, the standard deviation of `left`, and the largest |left|.
    """
    relative = np.log(times) - np.log(times).mean(0)
    pace = np.median(relative, axis=1)
    left = relative - pace[:, None]
    freedom = (len(times) - 1) / len(times)  # The mean over sessions takes one degree of freedom.
    return np.expm1(pace), float(np.sqrt(np.mean(left**2) / freedom)), float(np.abs(left).max())


def table(visited: np.ndarray, counts: Sequence[int]) -> str:
    """Spread by statistic and number of rounds, as a Markdown table.

    Args:
        visited: Medians of visits in milliseconds, float64 [sessions, networks, rounds].
        counts: Numbers of rounds; a row of the table is made from the first `count` rounds of each session.
    """
    lines = ["| rounds | statistic | pace of the sessions, % | left, sd | left, worst |",
             "| --- | --- | --- | --- | --- |"]
    for count, (name, statistic) in itertools.product(counts, STATISTICS.items()):
        paces, deviation, worst = spread(statistic(visited[..., :count]))
        lines.append(f"| {count} | {name} | {', '.join(f'{100 * pace:+.1f}' for pace in paces)} | {deviation:.2%} | "
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
    flags.DEFINE_integer("networks", 24, "Number of random networks.", 2)
    flags.DEFINE_integer("sessions", 4, "Number of sessions, each of which times all networks.", 2)
    flags.DEFINE_integer("rounds", 100, "Visits of each network in a session.", 1)
    flags.DEFINE_integer("runs", 3, "Timed runs of a visit.", 1)
    start.start(_main)


if __name__ == "__main__":
    main()
