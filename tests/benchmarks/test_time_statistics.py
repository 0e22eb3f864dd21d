"""The benchmark of statistics: the pace and what is left of differences, by hand, and one real run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.targets import time_statistics

ROOT = Path(__file__).parents[2]


def test_pace_and_what_is_left_by_hand():
    """Three networks in two sessions. The second is 4 % slower, except for the last network, which is 1 % faster."""
    times = np.array([[1.0, 2.0, 4.0], [1.04, 2.08, 4.0 * 0.99]])
    pace, deviation, worst = time_statistics.spread(times)
    np.testing.assert_allclose(pace, [1.04**-0.5 - 1, 1.04**0.5 - 1])
    left = 0.5 * np.log(1.04 / 0.99)
    assert worst == pytest.approx(left) and deviation == pytest.approx(left * (2 / 3) ** 0.5)


def test_statistics_of_the_first_rounds():
    """One network, two sessions. The least times are 2 and 2 over two rounds, and 1 and 2 over four."""
    visited = np.array([[[3.0, 2.0, 1.0, 5.0]], [[2.0, 3.0, 4.0, 5.0]]])
    lines = {tuple(line.split(" | ")[:2]): line.split(" | ")[2] for line in
             time_statistics.table(visited, [2, 4]).replace("| ", "", 1).splitlines()[2:]}
    lines = {(rounds.strip("| "), name): pace for (rounds, name), pace in lines.items()}
    assert lines["2", "least"] == "+0.0, +0.0" and lines["4", "least"] == "-29.3, +41.4"


@pytest.mark.slow
def test_a_real_run():
    result = subprocess.run([sys.executable, "-m", "benchmarks.targets.time_statistics", "--space=quickstart",
                             "--networks=3", "--sessions=2", "--rounds=7"],
                            cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith(("| 6 ", "| 7 "))]
    assert len(rows) == 2 * len(time_statistics.STATISTICS)
