"""NAS-Bench-Macro as a truth: all networks of a small space, each trained alone, with its published accuracy.

The file is `data/nas-bench-macro_cifar10.json` of github.com/xiusu/NAS-Bench-Macro (Apache-2.0; Su et al., CVPR 2021,
arXiv 2103.11922). Its networks are those of the space `nas_bench_macro.json` beside this module: a digit of a name is
the index of an op of one choice.
"""

import dataclasses
import itertools
import os

import numpy as np

from pnas_tf import files
from pnas_tf.cost.prices import Cost, macs, matrix, params
from pnas_tf.errors import InputError
from pnas_tf.space import ops, spaces
from pnas_tf.space.blocks import Space

# Largest truth in bytes; the published one has 1.2 MB.
MAX_BYTES = 50_000_000
# Number of random networks of which the best by inherited loss is a rival, and number of draws.
RANDOM, DRAWS = 64, 200


def space(name: str = "nas_bench_macro") -> Space:
    """A space beside this module: `nas_bench_macro`, or `nas_bench_macro_half` with maps of half the side."""
    return spaces.load(os.path.join(os.path.dirname(__file__), f"{name}.json"))


@dataclasses.dataclass(frozen=True)
class Truth:
    """The accuracy of every network of a space.

    Attributes:
        paths: Op indices, int32 [networks, choices].
        accuracy: Mean test accuracy over the trainings of each network, percent, float64 [networks].
        trainings: Test accuracy of each training, percent, float64 [networks, trainings].
        params: Number of trainable parameters, int64 [networks].
        macs: Number of multiply-accumulates, int64 [networks].
    """

    paths: np.ndarray
    accuracy: np.ndarray
    trainings: np.ndarray
    params: np.ndarray
    macs: np.ndarray

    def of(self, path: np.ndarray) -> int:
        """Index of the network with these op indices, int [choices]."""
        return int(np.flatnonzero((self.paths == np.asarray(path)).all(axis=1))[0])

    def within(self, cost: Cost, bound: float) -> np.ndarray:
        """Indices of the networks whose cost is within a bound."""
        return np.flatnonzero(cost.of_paths(self.paths) <= bound * (1 + 1e-9))

    def regret(self, path: np.ndarray, cost: Cost, bound: float) -> float:
        """Points of accuracy that the best network within a bound has above this one; negative if this one is above it.

        Args:
            path: Op indices, int [choices].
            cost: Cost of each op.
            bound: Largest cost.
        """
        within = self.within(cost, bound)
        return float(self.accuracy[within].max() - self.accuracy[self.of(path)])

    def rank(self, path: np.ndarray, cost: Cost, bound: float) -> float:
        """Share of the networks within a bound that are more accurate than this one, 0 to 1."""
        within = self.within(cost, bound)
        return float(np.mean(self.accuracy[within] > self.accuracy[self.of(path)]))


def read(path: str, of_space: Space) -> Truth:
    """Reads the published file.

    Args:
        path: Path of the JSON file: {name: {test_acc: [...], mean_acc, params, flops}}.
        of_space: Space whose choices the digits of a name index.

    Raises:
        InputError: If the file does not have every network of the space, with numbers.
    """
    data = files.read_json(path, MAX_BYTES)
    counts = [len(block.ops) for block in of_space.choices.values()]
    names = ["".join(map(str, path)) for path in itertools.product(*map(range, counts))]
    try:
        rows = [data[name] for name in names]
        trainings = np.array([row["test_acc"] for row in rows], np.float64)
        numbers = [np.array([row[field] for row in rows], np.float64) for field in ("mean_acc", "params", "flops")]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: expected the {len(names):,} networks of {of_space.name}, each with test_acc, "
                         "mean_acc, params and flops. Take data/nas-bench-macro_cifar10.json of "
                         "github.com/xiusu/NAS-Bench-Macro.") from None
    paths = np.array([[int(digit) for digit in name] for name in names], np.int32)
    return Truth(paths, numbers[0], trainings, numbers[1].astype(np.int64), numbers[2].astype(np.int64))


def largest_difference(truth: Truth, of_space: Space) -> tuple[int, int]:
    """Largest difference between our counts and the published ones, over all networks: of parameters, of MACs."""
    def largest(price, published):
        return int(np.abs(matrix(of_space, price).of_paths(truth.paths) - published).max())

    return largest(params(), truth.params), largest(macs(), truth.macs)


def most_macs(truth: Truth, cost: Cost, bound: float, fewest_skips: bool = False, of_space: Space | None = None
              ) -> np.ndarray:
    """The network of most MACs within a bound, which needs no search.

    Args:
        truth: Truth of the space.
        cost: Cost of each op.
        bound: Largest cost.
        fewest_skips: Whether networks with fewer skipped blocks come first.
        of_space: Space of the networks, for `fewest_skips`.

    Returns:
        Op indices, int32 [choices].
    """
    within = truth.within(cost, bound)
    skips = np.zeros(len(within))
    if fewest_skips and of_space is not None:
        skips = np.sum([truth.paths[within, row] == block.ops.index(ops.ZERO)
                        for row, block in enumerate(of_space.choices.values()) if ops.ZERO in block.ops], axis=0)
    return truth.paths[within[np.lexsort((-truth.macs[within], skips))[0]]]


def best_of_random(truth: Truth, cost: Cost, bound: float, count: int, by: np.ndarray, seed: int = 0) -> float:
    """Mean regret of the best of `count` random networks within a bound.

    Args:
        truth: Truth of the space.
        cost: Cost of each op.
        bound: Largest cost.
        count: Number of networks in a draw.
        by: What the best has most of, float [networks]: the accuracy of one training, or minus an inherited loss.
        seed: Seed of the draws.
    """
    within = truth.within(cost, bound)
    drawn = np.random.default_rng(seed).choice(within, (DRAWS, count))
    chosen = drawn[np.arange(DRAWS), np.argmax(by[drawn], axis=1)]
    return float(truth.accuracy[within].max() - truth.accuracy[chosen].mean())


def best_by_one_training(truth: Truth, cost: Cost, bound: float) -> list[tuple[float, float]]:
    """What one full training of every network within a bound finds: the noise of trainings sets this limit.

    The network of highest accuracy in one training is judged by its other trainings, which did not choose it.

    Args:
        truth: Truth of the space, with at least two trainings of each network.
        cost: Cost of each op.
        bound: Largest cost.

    Returns:
        Regret and rank for each training that chooses.
    """
    within = truth.within(cost, bound)
    results = []
    for number in range(truth.trainings.shape[1]):
        chosen = within[np.argmax(truth.trainings[within, number])]
        accuracy = np.delete(truth.trainings[chosen], number).mean()
        results.append((float(truth.accuracy[within].max() - accuracy),
                        float(np.mean(truth.accuracy[within] > accuracy))))
    return results
