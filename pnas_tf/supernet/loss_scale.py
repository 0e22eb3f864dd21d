"""Dynamic loss scaling, which keeps small float16 gradients from vanishing (Micikevicius et al. 2018)."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


class LossScale(keras.layers.Layer):
    """Multiplies the loss before its gradient is taken, and divides the gradient by the same factor.

        gradient = d(factor * loss)/dw / factor
        if all(isfinite(gradient)):
            w = update(w, gradient)
            factor = 2 * factor if growth_steps such steps have passed in a row else factor
        else:                                   # overflow: w stays as it is
            factor = max(1, factor / 2)

    The range of float32 and bfloat16 suffices: for them the factor is 1 and nothing is computed.

    Attributes:
        factor: Factor of the loss, scalar.
        good_steps: Number of steps without an overflow since the factor last changed, scalar.
    """

    def __init__(self, compute_dtype: str, start: float = 2.0**15, growth_steps: int = 1000):
        """Sets the factor.

        Args:
            compute_dtype: Type that gradients are computed in, such as `float16`.
            start: First factor.
            growth_steps: Number of steps without an overflow after which the factor doubles.
        """
        super().__init__(name="loss_scale")
        self._enabled, self._growth_steps = compute_dtype == "float16", growth_steps
        self.factor = self._scalar("factor", start if self._enabled else 1.0)
        self.good_steps = self._scalar("good_steps", 0.0)
        self.built = True

    def _scalar(self, name, value):
        return self.add_weight(name=name, shape=(), dtype="float32", trainable=False,
                               initializer=keras.initializers.Constant(value))

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate, `factor * loss`; scalar."""
        return loss * self.factor.value if self._enabled else loss

    def descend(self, gradients: Sequence[tf.Tensor], update: Callable[[Sequence[tf.Tensor]], None]) -> None:
        """Calls `update` with the gradients of the unscaled loss, unless float16 overflowed.

        Args:
            gradients: Gradients of the scaled loss; the same on every replica.
            update: Function that applies gradients.
        """
        if not self._enabled:
            update(gradients)
            return
        unscaled, finite = self.unscaled(gradients)

        def run():
            update(unscaled)
            return tf.constant(0)

        tf.cond(finite, run, lambda: tf.constant(0))

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor | bool]:
        """Divides gradients by the factor, and updates the factor.

        Args:
            gradients: Gradients of the scaled loss; the same on every replica.

        Returns:
            Gradients of the unscaled loss, all zeros if one of them overflowed; and whether none overflowed.
        """
        if not self._enabled:
            return list(gradients), True
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        factor, good = self.factor.value.read_value(), self.good_steps.value.read_value() + 1.0
        grown = good >= self._growth_steps
        self.factor.assign(tf.where(finite, tf.where(grown, factor * 2.0, factor), tf.maximum(1.0, factor / 2.0)))
        self.good_steps.assign(tf.where(finite & ~grown, good, 0.0))
        return [tf.where(finite, g / factor, tf.zeros_like(g)) for g in gradients], finite
