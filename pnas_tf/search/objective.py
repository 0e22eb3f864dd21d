"""Combines cost and accuracy: losses of an architecture step, multipliers that follow a bound, and rewards."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.errors import InputError

# Function from cross-entropy and expected milliseconds to the loss of an architecture step; all are scalars.
LatencyLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
LATENCY_LOSSES = ("lagrangian", "add_linear", "mul_log", "none")

# Function from accuracy and milliseconds of sampled networks to the reward that REINFORCE maximises; scalars or
# vectors.
Reward = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
REWARDS = ("paper", "mnas", "abs", "accuracy")

# Largest violation that counts, as a share of the bound: costs further off do not move a multiplier faster.
MAX_VIOLATION = 0.5


class Lagrangian(keras.layers.Layer):
    """A loss with a multiplier that dual ascent moves until the expected cost equals its bound.

        violation = clip(expected / bound - 1, -0.5, 0.5)
        loss = ce + (multiplier + 2 * scale * violation) * (expected / bound - 1)
        multiplier += 15 / arch_steps * scale * violation

    Each call is one step of the ascent. The term with 2 * scale damps it, so that the multiplier settles instead of
    oscillating. `scale` is the multiplier at which accuracy and cost have about equal influence;
    `GradientUpdater.calibrate` measures it. With a much larger multiplier, cost would settle every block before
    accuracy has any influence.

    The multiplier replaces the paper's lambda (equation 6), which has to be tuned for each target.

    Attributes:
        multiplier: Scalar, nats for 100 % over the bound. It may be negative, unless the bound is one-sided.
        scale: Scalar, nats.
    """

    def __init__(self, bound: float, arch_steps: int, scale: float = 0.015, one_sided: bool = False,
                 name: str = "lagrangian"):
        """Sets the step of the ascent.

        Args:
            bound: Cost to reach.
            arch_steps: Architecture steps of the whole search.
            scale: Initial scale in nats; 0.01 to 0.02 was measured on small spaces.
            one_sided: Whether costs below the bound are as good as costs at the bound.
            name: Name of the layer.
        """
        super().__init__(name=name)
        self.bound, self._rate, self._one_sided = bound, 15.0 / max(1, arch_steps), one_sided
        self.multiplier = self.add_weight(name="multiplier", shape=(), initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(), initializer=keras.initializers.Constant(scale),
                                     trainable=False)
        self.built = True

    def __call__(self, ce: tf.Tensor, expected: tf.Tensor) -> tf.Tensor:
        """The loss of one architecture step; scalars."""
        return ce + self.step(expected) * (expected / self.bound - 1.0)

    def step(self, expected: tf.Tensor) -> tf.Tensor:
        """One step of the ascent: from the expected cost to the weight of 100 % over the bound, in nats."""
        # Without the clip, a search that begins far above its bound would build up a multiplier too large to fall again
        # in time.
        violation = tf.clip_by_value(tf.stop_gradient(expected) / self.bound - 1.0, -MAX_VIOLATION, MAX_VIOLATION)
        multiplier, scale = self.multiplier.value.read_value(), self.scale.value.read_value()
        strength, moved = multiplier + 2.0 * scale * violation, multiplier + self._rate * scale * violation
        if self._one_sided:
            strength, moved = tf.maximum(strength, 0.0), tf.maximum(moved, 0.0)
        self.multiplier.assign(moved)
        return strength


def latency_loss(name: str, target_ms: float, arch_steps: int, strength: float = 0.1, one_sided: bool = False
                 ) -> LatencyLoss:
    """The loss with one of the names in `LATENCY_LOSSES`.

    Args:
        name: Name of the loss.
        target_ms: Requested milliseconds.
        arch_steps: Architecture steps of the whole search, for lagrangian.
        strength: Weight of the latency term, for add_linear.
        one_sided: Whether latencies below the target are as good as the target, for lagrangian.

    Raises:
        InputError: If the loss cannot work with the target.
    """
    if name == "none":
        return no_latency()
    if not target_ms > 0:
        raise InputError(f"The latency loss {name} needs a target: --target_ms above 0, got {target_ms}.")
    if name == "lagrangian":
        return Lagrangian(target_ms, arch_steps, one_sided=one_sided, name="ms")
    return add_linear(target_ms, strength) if name == "add_linear" else mul_log(target_ms)


def add_linear(target_ms: float, strength: float = 0.1) -> LatencyLoss:
    """The paper's additive loss (equation 6), normalised by the target.

        loss = ce + strength * (expected / target - 1)
    """
    return lambda ce, expected_ms: ce + strength * (expected_ms / target_ms - 1.0)


def mul_log(target_ms: float, alpha: float = 0.2, beta: float = 0.3) -> LatencyLoss:
    """The default loss of the authors' code.

        loss = alpha * ce * (ln expected / ln target) ** beta

    It depends on the unit and is undefined at 1 ms and below, so `expected` counts as 1.01 ms at least.

    Raises:
        InputError: If the target is 1.01 ms or less.
    """
    if target_ms <= 1.01:
        raise InputError(f"The latency loss mul_log needs a target above 1.01 ms, because it takes the logarithm; got "
                         f"{target_ms} ms. Use --latency_loss=add_linear.")
    return lambda ce, expected_ms: alpha * ce * (
        tf.math.log(tf.maximum(expected_ms, 1.01)) / np.float32(np.log(target_ms))) ** beta


def no_latency() -> LatencyLoss:
    """Cross-entropy alone."""
    return lambda ce, expected_ms: ce


def reward(name: str, target_ms: float) -> Reward:
    """The reward with one of the names in `REWARDS`, for a target of T milliseconds.

        paper:    acc * (T / ms) ** 0.1            the authors' code
        mnas:     acc * (ms / T) ** -0.07          Tan et al. 2019
        abs:      acc - 0.07 * |ms / T - 1|        Bender et al. 2020; pulls to the target from both sides
        accuracy: acc

    Args:
        name: Name of the reward.
        target_ms: T, above 0.
    """
    if name == "paper":
        return lambda accuracy, ms: accuracy * (target_ms / ms) ** 0.1
    if name == "mnas":
        return lambda accuracy, ms: accuracy * (ms / target_ms) ** -0.07
    if name == "abs":
        return lambda accuracy, ms: accuracy - 0.07 * tf.abs(ms / target_ms - 1.0)
    if name == "accuracy":
        return lambda accuracy, ms: accuracy
    raise ValueError(f"reward must be one of {REWARDS}, got {name!r}.")
