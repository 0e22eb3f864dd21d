"""How alpha learns from a held-out batch: the gradient of binary gates, or REINFORCE."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.cost import expectation
from pnas_tf.cost.prices import Cost
from pnas_tf.network.evaluate import accuracy_of, cross_entropy
from pnas_tf.search import replicas
from pnas_tf.search.config import Method
from pnas_tf.search.objective import Lagrangian, LatencyLoss, Reward
from pnas_tf.supernet import gates
from pnas_tf.supernet.supernet import Supernet

# What `observer` and `evaluator` return.
Observe = Callable[..., tuple[tf.Tensor, ...]]
Evaluate = Callable[..., tuple[tf.Tensor, tf.Tensor]]


class GradientUpdater(keras.layers.Layer):
    """Alpha by gradient through binary gates (paper sections 3.2 and 3.3).

    `two`: two ops of each choice are sampled, the pair's alphas move against each other, and a shift keeps
    every other probability as it was. `all`: one op runs with gradients, the outputs of all are observed.
    docs/method.md says what the steps estimate.
    """

    def __init__(self, supernet: Supernet, cost: Cost, latency_loss: LatencyLoss, method: Method | None = None, *,
                 limits: Sequence[tuple[Cost, Lagrangian]] = (), alpha: keras.Variable | None = None,
                 observe: Observe | None = None):
        """Prepares the step.

        Args:
            supernet: Supernet whose ops run.
            cost: Milliseconds of each op.
            latency_loss: Joins cross-entropy and expected milliseconds.
            method: How alpha learns. `paths` is `two` or `all`. `active_draw` is `even`, which judges a swap of two
                ops from both sides alike, or `softmax`, as the original does: see `gates.sample_pairs` for two paths and
                `gates.two_sided_gradient` for all. `expected_latency` says what the loss is told: `full`, the network's
                expectation; or `pair`, that over the ops of the step alone, as if a two-path step had no others (as the
                original does). The two differ for a loss that is not linear in milliseconds.
            limits: Further costs that join the loss, each with its multiplier.
            alpha: The alpha of the supernet that learns; the first one if None.
            observe: Result of `observer` with the same paths; several updaters may share it. Made here if None.
        """
        super().__init__(name="gradient_updater")
        method = method or Method()
        self._supernet, self._alpha = supernet, supernet.alpha if alpha is None else alpha
        self._costs, self._latency_loss = [cost, *(limit for limit, _ in limits)], latency_loss
        self._limit_losses = [multiplier for _, multiplier in limits]
        self._paths, self._active_draw = method.paths, method.active_draw
        self._expected_latency = method.expected_latency
        self._observe = observe or observer(supernet, method.paths)
        self._sample_on_all = replicas.on_all(supernet.distribute_strategy, self._sample)
        self._apply_on_all = replicas.on_all(supernet.distribute_strategy, self._apply)
        self.built = True

    @property
    def multipliers(self) -> list[Lagrangian]:
        """Those that follow a bound."""
        return [loss for loss in (self._latency_loss, *self._limit_losses) if isinstance(loss, Lagrangian)]

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step.

        Args:
            images: float32 [batch, height, width, channels], held out.
            labels: int32 [batch].
            seed: int32 [2], of the sampled paths.
            optimizer: Adam with beta1 = 0, so that alphas without a gradient stay.

        Returns:
            Scalars to log: held_out_loss, held_out_accuracy, expected_ms, and the multipliers by name.
        """
        involved, active = self._sample_on_all(seed)
        return self._apply_on_all(involved, active, *self._observe(images, labels, involved, active), optimizer)

    def measure_swaps(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, draws: int = 20
                      ) -> tuple[np.ndarray, np.ndarray]:
        """How much single swaps of ops change the loss, from both sides of each swap.

        Args:
            images: float32 [batch, height, width, channels], held out.
            labels: int32 [batch].
            seed: int32 [2].
            draws: of pairs, a pair for each choice; two gated passes each.

        Returns:
            int [found, choices, 2], pairs of ops, and float [found, choices], the estimated change of loss from the
            first to the second; found <= draws, as gradients overflow now and then in float16.
        """
        found, changes = [], []
        for one in tf.random.split(seed, draws):
            pairs = gates.sample_pairs(self._alpha.value, self._supernet.mask, one)
            there, there_finite = self._swap(images, labels, pairs)
            back, back_finite = self._swap(images, labels, tf.reverse(pairs, axis=[1]))
            if there_finite and back_finite:
                found.append(pairs.numpy())
                changes.append(0.5 * (there - back).numpy())
        return np.reshape(found, [-1, len(self._supernet.mask), 2]), np.reshape(changes, [-1, len(self._supernet.mask)])

    def calibrate(self, pairs: np.ndarray, changes: np.ndarray) -> None:
        """Sets the scale of each multiplier: where a typical swap's cost weighs as much as its change of loss.

        Args:
            pairs: int [n, choices, 2], from `measure_swaps`.
            changes: float [n, choices].
        """
        costs = self._costs if isinstance(self._latency_loss, Lagrangian) else self._costs[1:]
        rows = np.arange(pairs.shape[1])
        for cost, multiplier in zip(costs, self.multipliers, strict=True):
            shares = np.abs(cost.matrix[rows, pairs[..., 1]] - cost.matrix[rows, pairs[..., 0]]) / multiplier.bound
            if changes.size and np.median(shares) > 0 and np.median(np.abs(changes)) > 0:
                multiplier.scale.assign(np.median(np.abs(changes)) / np.median(shares))

    def _swap(self, images, labels, pairs):
        """Estimated change of loss [choices] from the first, active op of each pair to the second."""
        involved = pairs if self._paths == "two" else self._all_ops()
        rows, finite, *_ = self._observe(images, labels, involved, pairs[:, 0])
        rows = rows if self._paths == "two" else tf.gather(rows, pairs, batch_dims=1)
        return rows[:, 1] - rows[:, 0], bool(finite)

    def _apply(self, involved, active, gate_gradient, finite, ce, accuracy, optimizer):
        alpha, mask = self._alpha, self._supernet.mask
        before = alpha.value.read_value()
        probs = gates.probabilities(before, mask)
        told = probs if self._expected_latency == "full" else gates.probabilities(
            before, gates.members(involved, mask.shape[1]))
        ce_weight, *weights = self._loss_slopes(ce, [expectation.expected(cost, told) for cost in self._costs])
        if self._paths == "all" and self._active_draw == "even":
            ce_gradient = gates.two_sided_gradient(before, mask, active, gate_gradient)
        else:
            ce_gradient = gates.alpha_gradient(before, involved, gate_gradient)
        # An expected cost is linear in the gates too: each op's cost is its gate's gradient of it.
        matrix = sum(weight * cost.matrix for weight, cost in zip(weights, self._costs, strict=True))
        op_costs = tf.gather(matrix, tf.maximum(involved, 0), batch_dims=1)
        gradient = ce_weight * ce_gradient + gates.alpha_gradient(before, involved, op_costs)
        # Where float16 overflowed nothing is known of accuracy, and latency alone may not decide.
        optimizer.apply([replicas.share_of_sum(tf.where(finite, gradient, 0.0))], [alpha])
        if self._paths == "two":
            alpha.assign(gates.rescale(alpha.value.read_value(), before, involved))
        return {"held_out_loss": ce, "held_out_accuracy": accuracy, "expected_ms": expectation.expected(self._costs[0], probs),
                **{f"multiplier_{loss.name}": loss.multiplier.value.read_value() for loss in self.multipliers}}

    def _sample(self, seed):
        """The ops whose gates are asked for [choices, k], negative for none, and the active one [choices]."""
        alpha, mask = self._alpha.value, self._supernet.mask
        if self._paths == "two":
            pairs = gates.sample_pairs(alpha, mask, seed, self._active_draw)
            return pairs, pairs[:, 0]
        return self._all_ops(), gates.sample_path(alpha, mask, seed)

    def _all_ops(self):
        mask = self._supernet.mask
        return tf.where(mask, tf.range(mask.shape[1])[None], -1)

    def _loss_slopes(self, ce, expected):
        with tf.GradientTape() as tape:
            tape.watch([ce, expected])
            loss = self._latency_loss(ce, expected[0])
            for limit_loss, value in zip(self._limit_losses, expected[1:], strict=True):
                loss = limit_loss(loss, value)
        return tape.gradient(loss, [ce, *expected], unconnected_gradients="zero")


class ReinforceUpdater(keras.layers.Layer):
    """Alpha by REINFORCE (paper section 3.3.1): sampled networks are rewarded for accuracy and latency.

    Attributes:
        baseline: moving average of the mean reward; 0 before the first update.
        multipliers: of the limits.
    """

    def __init__(self, supernet: Supernet, cost: Cost, reward: Reward, samples: int = 10,
                 baseline_decay: float = 0.9, *, limits: Sequence[tuple[Cost, Lagrangian]] = (),
                 alpha: keras.Variable | None = None, evaluate: Evaluate | None = None):
        """Prepares the step.

        Args:
            supernet: whose ops run.
            cost: milliseconds of each op.
            reward: of a sampled network, see `cost.reward`.
            samples: networks an update.
            baseline_decay: share of the old baseline that stays at an update.
            limits: further costs that lower the reward, each with its multiplier.
            alpha: which of the supernet's alphas learns; the first one if None.
            evaluate: from `evaluator`; several updaters may share one. Made anew if None.
        """
        super().__init__(name="reinforce_updater")
        self._supernet, self._alpha = supernet, supernet.alpha if alpha is None else alpha
        self._costs, self._reward_of = [cost, *(limit for limit, _ in limits)], reward
        self.multipliers = [multiplier for _, multiplier in limits]
        self._samples, self._decay = samples, baseline_decay
        self.baseline = self.add_weight(name="baseline", shape=(), initializer="zeros", trainable=False)
        self.updates = self.add_weight(name="updates", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self._evaluate = evaluate or evaluator(supernet)
        self._sample_on_all = replicas.on_all(supernet.distribute_strategy, self._sample)
        self._apply_on_all = replicas.on_all(supernet.distribute_strategy, self._apply)
        self.built = True

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step; arguments and result as `GradientUpdater.update`, and `reward`."""
        paths = self._sample_on_all(seed)
        scores = [self._evaluate(images, labels, path) for path in tf.unstack(paths)]
        accuracies, losses = (tf.stack(column) for column in zip(*scores, strict=True))
        return self._apply_on_all(paths, accuracies, losses, optimizer)

    def _sample(self, seed):
        alpha, mask = self._alpha.value, self._supernet.mask
        seeds = tf.unstack(tf.random.split(seed, self._samples))
        return tf.stack([gates.sample_path(alpha, mask, one) for one in seeds])

    def _apply(self, paths, accuracies, losses, optimizer):
        alpha, mask = self._alpha, self._supernet.mask
        probs = gates.probabilities(alpha.value, mask)
        ms, *others = (cost.fixed + tf.reduce_sum(expectation.of_ops(cost, paths), axis=1) for cost in self._costs)
        rewards = self._reward_of(accuracies, ms)
        for cost, multiplier, used in zip(self._costs[1:], self.multipliers, others, strict=True):
            rewards -= multiplier.step(expectation.expected(cost, probs)) * (used / multiplier.bound - 1.0)
        mean = tf.reduce_mean(rewards)
        # The baseline that is subtracted does not contain the rewards it is subtracted from.
        baseline = tf.where(self.updates.value > 0, self.baseline.value, mean)
        optimizer.apply([replicas.share_of_sum(gates.policy_gradient(probs, paths, rewards - baseline))], [alpha])
        self.baseline.assign(self._decay * baseline + (1.0 - self._decay) * mean)
        self.updates.assign_add(1)
        return {"held_out_loss": tf.reduce_mean(losses), "held_out_accuracy": tf.reduce_mean(accuracies),
                "expected_ms": expectation.expected(self._costs[0], probs), "reward": mean,
                **{f"multiplier_{loss.name}": loss.multiplier.value.read_value() for loss in self.multipliers}}


def observer(supernet: Supernet, paths: str = "two", class_weights: np.ndarray | None = None) -> Observe:
    """Compiles the gate gradients of a step: of two ops of each choice, or of all.

    Args:
        supernet: whose ops run.
        paths: `two` or `all`.
        class_weights: of the cross-entropy.

    Returns:
        A function (images, labels, involved ops int32 [choices, k], active ops int32 [choices]) -> (float32 [choices,
        k], then as `gate_gradients`). The active op is the first one involved if there are two.
    """
    def observe(images, labels, involved, active):
        if paths == "all":
            return all_gate_gradients(supernet, images, labels, active, class_weights)
        others = [[pair[1]] for pair in tf.unstack(involved)]
        rows, *rest = gate_gradients(supernet, images, labels, active, others, class_weights)
        return tf.stack(rows), *rest

    return replicas.on_all(supernet.distribute_strategy, observe)


def evaluator(supernet: Supernet) -> Evaluate:
    """Compiles the score of a path: a function (images, labels, path int32 [choices]) -> (accuracy, cross-entropy)."""
    def evaluate(images, labels, path):
        logits = supernet(images, path)
        return replicas.mean([accuracy_of(labels, logits), cross_entropy(labels, logits)])

    return replicas.on_all(supernet.distribute_strategy, evaluate)


def gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor, active: tf.Tensor,
                   others: list[list[tf.Tensor | int]], class_weights: np.ndarray | None = None
                   ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
    """Derivatives of the cross-entropy by the gates of some ops while one path runs (paper equation 3).

    Args:
        supernet: whose ops run.
        images: float32 [batch, height, width, channels].
        labels: int32 [batch].
        active: int32 [choices], the path.
        others: for each choice the further ops to observe.
        class_weights: of the cross-entropy.

    Returns:
        For each choice float32 [1 + others], the active op's first; whether they are finite, as they always are but
        in float16 (then they are 0); the cross-entropy; the accuracy. All are means over replicas.
    """
    rows = [tf.zeros([1 + len(row)]) for row in others]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(rows)
        logits = supernet.run_gated(images, active, others, rows)
        ce = cross_entropy(labels, logits, class_weights=class_weights)
        scaled = supernet.loss_scale.scaled(ce)
    *rows, ce, accuracy = replicas.mean([*tape.gradient(scaled, rows), ce, accuracy_of(labels, logits)])
    rows, finite = supernet.loss_scale.unscaled(rows)
    return rows, finite, ce, accuracy


def all_gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor, active: tf.Tensor,
                       class_weights: np.ndarray | None = None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `gate_gradients`, of every op: float32 [choices, ops], 0 for ops that a choice lacks."""
    others = [list(range(count)) for count in supernet.mask.sum(1)]
    rows, *rest = gate_gradients(supernet, images, labels, active, others, class_weights)
    # The active op is also one of all: its own gate stands first and is not needed twice.
    rows = [tf.pad(row[1:], [[0, supernet.mask.shape[1] + 1 - row.shape[0]]]) for row in rows]
    return tf.stack(rows), *rest
