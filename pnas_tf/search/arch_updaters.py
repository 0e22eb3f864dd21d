"""Updates alpha on a held-out batch: by the gradient of binary gates, or by REINFORCE (paper section 3)."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.cost import expectation
from pnas_tf.cost.prices import Cost
from pnas_tf.search import observers, replicas
from pnas_tf.search.config import Method
from pnas_tf.search.objective import Lagrangian, LatencyLoss, Reward
from pnas_tf.supernet import gates
from pnas_tf.supernet.supernet import Supernet


def calibrate(updaters: Sequence["GradientUpdater | ReinforceUpdater"], images: tf.Tensor, labels: tf.Tensor,
              seed: tf.Tensor) -> None:
    """Sets the scales of all multipliers of gradient updaters, by the weights that the supernet has, and says them.

    REINFORCE has no gradients to compare costs with: its multipliers keep the scale that they begin with.

    Args:
        updaters: Updaters of one supernet and one kind, a goal each.
        images: Held-out images, as for `GradientUpdater.update`.
        labels: Classes.
        seed: Seed of the pairs.
    """
    gradients = [updater for updater in updaters if isinstance(updater, GradientUpdater)]
    if any(updater.multipliers for updater in gradients):
        swaps = gradients[0].measure_swaps(images, labels, seed)
        for updater in gradients:
            updater.calibrate(*swaps)
        scales = ", ".join(f"{float(multiplier.scale.value.numpy()):.3g} ({multiplier.name})"
                           for updater in gradients for multiplier in updater.multipliers)
        terminal.say(f"Multipliers at which cost and accuracy have equal influence, in nats: {scales}.")


class GradientUpdater(keras.layers.Layer):
    """Moves alpha by gradients through binary gates (paper sections 3.2 and 3.3).

    With p = softmax(alpha) of one choice, L_i the held-out loss if the choice has op i, and cost_i the milliseconds of
    op i, a step estimates the gradient of the expected loss under p:

        dE[L]/dalpha_i = sum_j p_i p_j (L_i - L_j)
        L_i - L_j      ~ ((dL/dg_i - dL/dg_j with i active) + (the same with j active)) / 2
        dL/dg_j        = <dL/dy, o_j>                        paper equation 3; y is the choice's output, o_j op j's
        dL/dalpha_i    = sum_j dL/dg_j p_j (delta_ij - p_i)  paper equation 4; p over the ops involved in the step
        E[ms]          = fixed + sum_choices sum_j p_j cost_j                 paper equation 5

    E[ms] is linear in the gates, so dL/dg_j gains cost_j, times the derivative of the loss with respect to E[ms].

    `paths` is `two` or `all`. With `two`, two ops of each choice are sampled; one of them runs with gradients, and
    the output of the other is only observed. Their alphas move against each other, and a shift of both keeps the
    probability of every other op (paper section 3.2.1). With `all`, one op runs with gradients, and the outputs of all
    ops are observed. docs/method.md derives the mean of each kind of step.

    For choices of filters, `L_i - L_j` is measured instead: see `observers.gate_gradients`.
    """

    def __init__(self, supernet: Supernet, cost: Cost, latency_loss: LatencyLoss, method: Method | None = None, *,
                 limits: Sequence[tuple[Cost, Lagrangian]] = (), alpha: keras.Variable | None = None,
                 observe: observers.Observe | None = None):
        """Prepares the step.

        Args:
            supernet: Supernet whose ops run.
            cost: Milliseconds of each op.
            latency_loss: Loss of cross-entropy and expected milliseconds, see `objective.latency_loss`.
            method: Settings of the update; the defaults if None. `paths` is `two` or `all`. `active_draw` is `even`,
                which weighs both sides of a swap of two ops equally, or `softmax`, as in the authors' code: see
                `gates.sample_pairs` for two paths and `gates.two_sided_gradient` for all. `expected_latency` names the
                milliseconds in the loss: `full`, the expectation over all ops; or `pair`, the expectation over the ops
                of the step alone, as in the authors' code. They differ if the loss is not linear in milliseconds.
            limits: Further costs that join the loss, each with its multiplier.
            alpha: Alpha of the supernet that learns; the first alpha if None.
            observe: Result of `observers.observer` with the same paths, which several updaters may share; None to make
                it.
        """
        super().__init__(name="gradient_updater")
        method = method or Method()
        self._supernet, self._alpha = supernet, supernet.alpha if alpha is None else alpha
        self._costs, self._latency_loss = [cost, *(limit for limit, _ in limits)], latency_loss
        self._limit_losses = [multiplier for _, multiplier in limits]
        self._paths, self._active_draw = method.paths, method.active_draw
        self._expected_latency = method.expected_latency
        self._observe = observe or observers.observer(supernet, method.paths)
        self._sample_on_all = replicas.on_all(supernet.distribute_strategy, self._sample)
        self._apply_on_all = replicas.on_all(supernet.distribute_strategy, self._apply)
        self.built = True

    @property
    def multipliers(self) -> list[Lagrangian]:
        """The multipliers that follow a bound, the multiplier of milliseconds first."""
        return [loss for loss in (self._latency_loss, *self._limit_losses) if isinstance(loss, Lagrangian)]

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step.

        Args:
            images: Held-out images, float32 [batch, height, width, channels].
            labels: Classes, int32 [batch].
            seed: Seed of the sampled paths, int32 [2].
            optimizer: Optimizer of this alpha: Adam with beta1 = 0, so that alphas without a gradient do not move.

        Returns:
            Scalars to log: held_out_loss, held_out_accuracy, expected_ms, and each multiplier as multiplier_NAME.
        """
        involved, active = self._sample_on_all(seed)
        return self._apply_on_all(involved, active, *self._observe(images, labels, involved, active), optimizer)

    def measure_swaps(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, draws: int = 20
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Estimates the change of the loss by swaps of single ops, from both sides of each swap.

            change = mean of (dL/dg_second - dL/dg_first) over two passes: one with each op of the pair active

        Args:
            images: Held-out images, float32 [batch, height, width, channels].
            labels: Classes, int32 [batch].
            seed: Seed of the pairs, int32 [2].
            draws: Number of draws; each draws one pair for each choice and takes two passes.

        Returns:
            Pairs of ops, int [n, choices, 2], and the change of loss from the first to the second, float [n, choices].
            n is at most `draws`: draws with gradients that overflowed, as happens in float16, are left out.
        """
        choices = len(self._supernet.mask)
        kept_pairs, changes = [], []
        for draw_seed in tf.random.split(seed, draws):
            pairs = gates.sample_pairs(self._alpha.value, self._supernet.mask, draw_seed)
            forward, forward_finite = self._swap(images, labels, pairs)
            backward, backward_finite = self._swap(images, labels, tf.reverse(pairs, axis=[1]))
            if forward_finite and backward_finite:
                kept_pairs.append(pairs.numpy())
                changes.append(0.5 * (forward - backward).numpy())
        return np.reshape(kept_pairs, [-1, choices, 2]), np.reshape(changes, [-1, choices])

    def calibrate(self, pairs: np.ndarray, changes: np.ndarray) -> None:
        """Sets the scale of each multiplier, at which cost and accuracy weigh equally in a typical swap.

            scale = median |change of loss| / median |change of cost / bound|

        A scale stays as it is if one of the medians is 0 or nothing was measured.

        Args:
            pairs: Pairs of ops from `measure_swaps`, int [n, choices, 2].
            changes: Change of loss of each swap in nats, float [n, choices].
        """
        costs = self._costs if isinstance(self._latency_loss, Lagrangian) else self._costs[1:]
        rows, probs = np.arange(pairs.shape[1]), gates.probabilities(self._alpha.value, self._supernet.mask).numpy()
        for cost, multiplier in zip((cost.around(probs) for cost in costs), self.multipliers, strict=True):
            shares = np.abs(cost.matrix[rows, pairs[..., 1]] - cost.matrix[rows, pairs[..., 0]]) / multiplier.bound
            if changes.size and np.median(shares) > 0 and np.median(np.abs(changes)) > 0:
                multiplier.scale.assign(np.median(np.abs(changes)) / np.median(shares))

    def _swap(self, images, labels, pairs):
        """Change of loss from the first, active op of each pair to the second, [choices]; and whether it is finite."""
        involved = pairs if self._paths == "two" else self._all_ops()
        rows, finite, *_ = self._observe(images, labels, involved, pairs[:, 0])
        rows = rows if self._paths == "two" else tf.gather(rows, pairs, batch_dims=1)
        return rows[:, 1] - rows[:, 0], bool(finite)

    def _apply(self, involved, active, gate_gradient, finite, ce, accuracy, optimizer):
        """Moves alpha by the gradients of the gates, and returns the logs of `update`."""
        alpha, mask = self._alpha, self._supernet.mask
        before = alpha.value.read_value()
        probs = gates.probabilities(before, mask)
        cost_probs = probs if self._expected_latency == "full" else gates.probabilities(
            before, gates.members(involved, mask.shape[1]))
        ce_weight, *weights = self._loss_slopes(ce, [expectation.expected(cost, cost_probs) for cost in self._costs])
        if self._paths == "all" and self._active_draw == "even":
            ce_gradient = gates.two_sided_gradient(before, mask, active, gate_gradient)
        else:
            ce_gradient = gates.alpha_gradient(before, involved, gate_gradient)
        # The expected cost is linear in each gate, too: its derivative by a gate is the expected cost of the gate's op.
        matrix = sum(weight * expectation.slopes(cost, cost_probs)
                     for weight, cost in zip(weights, self._costs, strict=True))
        op_costs = tf.gather(matrix, tf.maximum(involved, 0), batch_dims=1)
        gradient = ce_weight * ce_gradient + gates.alpha_gradient(before, involved, op_costs)
        # After an overflow in float16, the step has no information on accuracy, and latency alone must not move alpha.
        optimizer.apply([replicas.share_of_sum(tf.where(finite, gradient, 0.0))], [alpha])
        if self._paths == "two":
            alpha.assign(gates.rescale(alpha.value.read_value(), before, involved))
        return {"held_out_loss": ce, "held_out_accuracy": accuracy,
                "expected_ms": expectation.expected(self._costs[0], probs), **_multiplier_logs(self.multipliers)}

    def _sample(self, seed):
        """The ops whose gate gradients are needed, [choices, k], negative for none; and the active op, [choices]."""
        alpha, mask = self._alpha.value, self._supernet.mask
        if self._paths == "two":
            pairs = gates.sample_pairs(alpha, mask, seed, self._active_draw)
            return pairs, pairs[:, 0]
        return self._all_ops(), gates.sample_path(alpha, mask, seed)

    def _all_ops(self):
        """Every op of every choice, int32 [choices, ops], -1 for ops that a choice lacks."""
        mask = self._supernet.mask
        return tf.where(mask, tf.range(mask.shape[1])[None], -1)

    def _loss_slopes(self, ce, expected):
        """The derivatives of the loss with respect to the cross-entropy and to each expected cost."""
        with tf.GradientTape() as tape:
            tape.watch([ce, expected])
            loss = self._latency_loss(ce, expected[0])
            for limit_loss, value in zip(self._limit_losses, expected[1:], strict=True):
                loss = limit_loss(loss, value)
        return tape.gradient(loss, [ce, *expected], unconnected_gradients="zero")


class ReinforceUpdater(keras.layers.Layer):
    """Moves alpha by REINFORCE: sampled networks are rewarded for accuracy and latency (paper section 3.3.1).

        reward_k  = R(accuracy_k, ms_k) - sum_limits multiplier * (cost_k / bound - 1)
        baseline  = decay * baseline + (1 - decay) * mean reward                after each update
        gradient  = mean over k of (reward_k - baseline) * d(-ln p(path_k))/dalpha

    The gradient estimates -dE[reward]/dalpha. It is unbiased, because the baseline contains earlier rewards only. The
    first update has no earlier rewards and subtracts the mean of its own rewards.

    Attributes:
        baseline: Moving average of the mean reward; 0 before the first update.
        multipliers: Multipliers of the limits.
    """

    def __init__(self, supernet: Supernet, cost: Cost, reward: Reward, samples: int = 10,
                 baseline_decay: float = 0.9, *, limits: Sequence[tuple[Cost, Lagrangian]] = (),
                 alpha: keras.Variable | None = None, evaluate: observers.Evaluate | None = None):
        """Prepares the step.

        Args:
            supernet: Supernet whose ops run.
            cost: Milliseconds of each op.
            reward: Reward R of a sampled network, see `objective.reward`.
            samples: Number of networks sampled for an update.
            baseline_decay: Share of the old baseline that stays at an update.
            limits: Further costs that lower the reward, each with its multiplier.
            alpha: Alpha of the supernet that learns; the first alpha if None.
            evaluate: Result of `observers.evaluator`, which several updaters may share; None to make it.
        """
        super().__init__(name="reinforce_updater")
        self._supernet, self._alpha = supernet, supernet.alpha if alpha is None else alpha
        self._costs, self._reward_of = [cost, *(limit for limit, _ in limits)], reward
        self.multipliers = [multiplier for _, multiplier in limits]
        self._samples, self._decay = samples, baseline_decay
        self.baseline = self.add_weight(name="baseline", shape=(), initializer="zeros", trainable=False)
        self.updates = self.add_weight(name="updates", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self._evaluate = evaluate or observers.evaluator(supernet)
        self._sample_on_all = replicas.on_all(supernet.distribute_strategy, self._sample)
        self._apply_on_all = replicas.on_all(supernet.distribute_strategy, self._apply)
        self.built = True

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step; arguments and logs as for `GradientUpdater.update`, with `reward` in addition."""
        paths = self._sample_on_all(seed)
        scores = [self._evaluate(images, labels, path) for path in tf.unstack(paths)]
        accuracies, losses = (tf.stack(column) for column in zip(*scores, strict=True))
        return self._apply_on_all(paths, accuracies, losses, optimizer)

    def _sample(self, seed):
        """Paths of the sampled networks, int32 [samples, choices]."""
        alpha, mask = self._alpha.value, self._supernet.mask
        seeds = tf.unstack(tf.random.split(seed, self._samples))
        return tf.stack([gates.sample_path(alpha, mask, path_seed) for path_seed in seeds])

    def _apply(self, paths, accuracies, losses, optimizer):
        """Moves alpha by the rewards of the paths, and returns the logs of `update`."""
        alpha, mask = self._alpha, self._supernet.mask
        probs = gates.probabilities(alpha.value, mask)
        ms, *others = (expectation.of_paths(cost, paths) for cost in self._costs)
        rewards = self._reward_of(accuracies, ms)
        for cost, multiplier, path_costs in zip(self._costs[1:], self.multipliers, others, strict=True):
            rewards -= multiplier.step(expectation.expected(cost, probs)) * (path_costs / multiplier.bound - 1.0)
        mean = tf.reduce_mean(rewards)
        # The baseline contains only the rewards of earlier updates; otherwise the gradient would be biased.
        baseline = tf.where(self.updates.value > 0, self.baseline.value, mean)
        optimizer.apply([replicas.share_of_sum(gates.policy_gradient(probs, paths, rewards - baseline))], [alpha])
        self.baseline.assign(self._decay * baseline + (1.0 - self._decay) * mean)
        self.updates.assign_add(1)
        return {"held_out_loss": tf.reduce_mean(losses), "held_out_accuracy": tf.reduce_mean(accuracies),
                "expected_ms": expectation.expected(self._costs[0], probs), "reward": mean,
                **_multiplier_logs(self.multipliers)}


def _multiplier_logs(multipliers):
    return {f"multiplier_{loss.name}": loss.multiplier.value.read_value() for loss in multipliers}
