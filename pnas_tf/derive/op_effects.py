"""A linear model of the losses of networks: a sum of effects of their ops, and a term for the network's depth.

The loss of a single network with weights from the supernet says less about the network trained alone than this sum
does. What a network's loss has beyond the sum comes from the few steps in which its ops were trained together, and is
gone after a training of its own. On NAS-Bench-Macro the sum ranks all networks with a Kendall of 0.82 where single
losses reach 0.79, and with 0.75 where they reach 0.67 (benchmarks/NOTES.md).

A deep network loses less than a shallow one by doing without a layer. No sum of effects can say so; the term for depth
does. What it calls depth is a number of layers, those of parallel branches included.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from pnas_tf.cost import prices
from pnas_tf.space.blocks import Space, uniform_probs

# Prior deviations of the effects that are tried, as multiples of the deviation of the noise.
DEVIATIONS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
# Likewise for the term for depth. It is a straight line beyond so many deviations of depth, where no random network is.
BENDS, SEEN_DEPTHS = DEVIATIONS[::2], 3.0
# Depths, in deviations from their mean, at which tangents stand for the term.
TANGENTS = np.linspace(-SEEN_DEPTHS, SEEN_DEPTHS, 13)
# Prior deviation of the difficulties, likewise: wide enough to leave them free.
FREE = 100.0


@dataclasses.dataclass(frozen=True)
class OpEffects:
    """Effects of ops on the logarithm of the loss, with their uncertainty.

        log loss(path, images) = difficulty[images] + sum over choices of (kind[op] + own[choice, op])
                                 + bend * square((depth - mean depth) / deviation of depth) + noise

    `op` is the op that the path has at the choice; depth is that of `prices.depth`, with mean and deviation over
    all networks of the space. All effects are normal around 0: an op has one effect wherever it is, and an effect
    of its own at each choice, so that few networks already say something about all choices. The prior deviations of
    `kind`, `own` and `bend`, relative to the noise, are those of highest marginal likelihood; but a `bend` below 0
    counts as 0. Beyond 3 deviations of depth the square goes on as a straight line.

    Networks may be scored on different images, which then have a difficulty each: so few images for a network are
    enough, and the errors of the effects are honest about the number of all images.

    Attributes:
        space: Space of the networks.
        difficulty: Mean logarithm of the loss of each set of images, float64 [sets].
        mean: Posterior mean of all effects, float64 [features].
        noise: Deviation of the noise.
        seen: Features of the networks that were fitted, perhaps compressed, float64 [rows, features].
        prior: Prior variance of each feature as a multiple of that of the noise, float64 [features].
        precision: Inverse of the covariance of these rows, likewise, float64 [rows, rows].
        lean: What is added to the mean of each effect by a rule, see `lean`; its standard error is as large as itself,
            float64 [features].
    """

    space: Space
    difficulty: np.ndarray
    mean: np.ndarray
    noise: float
    seen: np.ndarray
    prior: np.ndarray
    precision: np.ndarray
    lean: np.ndarray

    @staticmethod
    def fit(space: Space, paths: np.ndarray, losses: Sequence[float], images: Sequence[int]) -> "OpEffects":
        """Fits the effects to networks whose loss is known.

        Args:
            space: Space of the networks.
            paths: Op indices, int [networks, choices].
            losses: Loss of each network, above 0, [networks].
            images: Index of the set of images that each network was scored on, from 0, [networks].
        """
        sets = (np.asarray(images)[:, None] == np.arange(max(images) + 1)[None]).astype(np.float64)
        logs = np.log(np.maximum(losses, 1e-12))
        level, kinds = logs.mean(), len(_op_names(space))
        x, y, rest = _compressed(np.concatenate([sets, features(space, paths)], axis=1), logs - level)
        sets, seen = x[:, :sets.shape[1]], x[:, sets.shape[1]:]
        grams = [part @ part.T for part in (sets, seen[:, :kinds], seen[:, kinds:-1], seen[:, -1:])]

        def covariance(*deviations):
            return np.eye(len(y)) + sum(deviation**2 * gram for deviation, gram in zip((FREE, *deviations), grams,
                                                                                       strict=True))

        for bends in (BENDS if seen[:, -1].any() else (0.0,), (0.0,)):
            kind, own, bend = max(itertools.product(DEVIATIONS, DEVIATIONS, bends), key=lambda deviations: _evidence(
                covariance(*deviations), y, rest, len(logs)))
            precision = np.linalg.inv(covariance(kind, own, bend))
            residual = precision @ y
            prior = np.square([*[kind] * kinds, *[own] * (seen.shape[1] - kinds - 1), bend])
            mean = prior * (seen.T @ residual)
            if mean[-1] >= 0:
                break
        variance = max((float(y @ residual) + rest) / len(logs), 1e-12)
        return OpEffects(space, level + FREE**2 * sets.T @ residual, mean, math.sqrt(variance),
                         seen, prior, precision, np.zeros(len(prior)))

    def loss(self, paths: np.ndarray) -> np.ndarray:
        """Expected losses of networks on images of mean difficulty, int [networks, choices] -> float64 [networks]."""
        return np.exp(self.difficulty.mean() + features(self.space, paths) @ (self.mean + self.lean))

    def error(self, path: np.ndarray, other: np.ndarray) -> float:
        """Standard error of the difference between the expected losses of two networks, int [choices] each."""
        difference = np.subtract(*features(self.space, np.stack([path, other])))
        shared = self.seen @ (self.prior * difference)
        variance = max(0.0, difference @ (self.prior * difference) - shared @ self.precision @ shared)
        return float(self.loss(np.asarray(path)[None])[0] * math.hypot(self.noise * math.sqrt(variance),
                                                                       difference @ self.lean))

    def leaning(self, lean: np.ndarray) -> "OpEffects":
        """The effects with a lean for each op at each choice, float64 [choices, ops]."""
        own = np.concatenate([lean[row, :len(block.ops)] for row, block in enumerate(self.space.choices.values())])
        return dataclasses.replace(self, lean=np.concatenate([np.zeros(len(self.mean) - len(own) - 1), own, [0.0]]))

    def matrix(self) -> np.ndarray:
        """The effect of each op at each choice, float64 [choices, ops]; 0 for entries that a choice lacks."""
        names, blocks = _op_names(self.space), list(self.space.choices.values())
        effects = self.mean + self.lean
        kind, own = effects[:len(names)], iter(effects[len(names):-1])
        rows = [[kind[names.index(op)] + next(own) for op in block.ops] for block in blocks]
        widest = max(map(len, rows))
        return np.array([row + [0.0] * (widest - len(row)) for row in rows])

    def tangents(self) -> list[tuple[np.ndarray, float]]:
        """Sums that touch the model from below, whose largest is nearly the model: `matrix` with a part of the term.

        Returns:
            Effects like those of `matrix`, and a constant, for each sum; a single one if there is no term for depth.
        """
        matrix, bend = self.matrix(), self.mean[-1]
        if not bend:
            return [(matrix, 0.0)]
        depths, mean, deviation = _depths(self.space)
        return [(matrix + 2 * bend * at / deviation * depths, -bend * (at**2 + 2 * at * mean / deviation))
                for at in TANGENTS]


def features(space: Space, paths: np.ndarray) -> np.ndarray:
    """Describes networks by their ops.

    Args:
        space: Space of the networks.
        paths: Op indices, int [networks, choices].

    Returns:
        float64 [networks, features]: the number of choices that hold each op, for each op of each choice whether the
        path has it, and the term for depth without its factor, 0 if all networks are equally deep.
    """
    names, paths = _op_names(space), np.asarray(paths)
    own = np.concatenate([paths[:, [row]] == np.arange(len(block.ops))[None]
                          for row, block in enumerate(space.choices.values())], axis=1).astype(np.float64)
    kinds = np.array([names.index(op) for block in space.choices.values() for op in block.ops])
    counts = own @ (kinds[:, None] == np.arange(len(names))[None])
    depths, mean, deviation = _depths(space)
    depth = depths[np.arange(paths.shape[1]), paths].sum(1)
    off = np.abs(depth - mean) / deviation if deviation else np.zeros(len(paths))
    bend = np.where(off <= SEEN_DEPTHS, np.square(off), 2 * SEEN_DEPTHS * off - SEEN_DEPTHS**2)
    return np.concatenate([counts, own, bend[:, None]], axis=1)


@functools.lru_cache(maxsize=16)
def _depths(space: Space) -> tuple[np.ndarray, float, float]:
    """The depth of each op at each choice, float64 [choices, ops]; mean and deviation of a network's depth, up to a
    constant: fixed blocks are left out."""
    even = uniform_probs(space)
    depths = prices.matrix(space, prices.depth()).around(even).matrix.astype(np.float64)
    means = np.sum(even * depths, axis=1)
    variance = float(np.sum(even * np.square(depths)) - np.sum(np.square(means)))
    return depths, float(means.sum()), math.sqrt(variance) if variance > 1e-9 else 0.0


def _op_names(space: Space) -> list[str]:
    return sorted({op for block in space.choices.values() for op in block.ops})


def _compressed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fewer rows with the same likelihood, if there are more networks than features.

        x = q r;  y = q z + what is orthogonal to all features, which is noise

    Args:
        x: Features, float64 [networks, features].
        y: Observations, float64 [networks].

    Returns:
        r, z, and the sum of squares of the rest.
    """
    if len(x) <= x.shape[1]:
        return x, y, 0.0
    q, r = np.linalg.qr(x)
    z = q.T @ y
    return r, z, max(0.0, float(y @ y - z @ z))


def _evidence(covariance: np.ndarray, y: np.ndarray, rest: float, count: int) -> float:
    """Logarithm of the marginal likelihood at the best variance of the noise, up to a constant.

    Args:
        covariance: Covariance of y as a multiple of the variance of the noise.
        y: Observations around their mean, perhaps compressed.
        rest: Sum of squares that compression took off.
        count: Number of observations before compression.
    """
    variance = max((float(y @ np.linalg.solve(covariance, y)) + rest) / count, 1e-12)
    return -0.5 * (count * math.log(variance) + float(np.linalg.slogdet(covariance)[1]))
