"""How alpha learns from a held-out batch: the gradient of binary gates, or REINFORCE."""

import keras
import tensorflow as tf

from pnas_tf import gates, replicas
from pnas_tf.cost import Cost, LatencyLoss, Reward
from pnas_tf.supernet import Supernet

PATHS = ("two", "all")
EXPECTED_LATENCIES = ("full", "pair")


class GradientUpdater(keras.layers.Layer):
    """Alpha by gradient through binary gates (paper sections 3.2 and 3.3).

    `two`: two ops of each choice are sampled, the pair's alphas move against each other, and a shift keeps
    every other probability as it was. `all`: one op runs with gradients, the outputs of all are observed.
    docs/method.md says what the steps estimate.
    """

    def __init__(self, supernet: Supernet, cost: Cost, latency_loss: LatencyLoss, paths: str = "two",
                 active_draw: str = "even", expected_latency: str = "full"):
        """Prepares the step.

        Args:
            supernet: whose alpha learns.
            cost: milliseconds of each op.
            latency_loss: joins cross-entropy and expected milliseconds.
            paths: `two` or `all`.
            active_draw: `even`, which judges a swap of two ops from both sides alike, or `softmax`, as the original
                does: see `gates.sample_pairs` for two paths and `gates.two_sided_gradient` for all.
            expected_latency: what the loss is told: `full`, the network's expectation; or `pair`, that over the ops
                of the step alone, as if a two-path step had no others (as the original does). The two
                differ for a loss that is not linear in milliseconds.
        """
        super().__init__(name="gradient_updater")
        for name, value, known in (("paths", paths, PATHS), ("active_draw", active_draw, gates.ACTIVE_DRAWS),
                                   ("expected_latency", expected_latency, EXPECTED_LATENCIES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}.")
        self._supernet, self._cost, self._latency_loss = supernet, cost, latency_loss
        self._paths, self._active_draw, self._expected_latency = paths, active_draw, expected_latency
        self._step_of_all = replicas.on_all(supernet.distribute_strategy, self._step)
        self.built = True

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step.

        Args:
            images: float32 [batch, height, width, channels], held out.
            labels: int32 [batch].
            seed: int32 [2], of the sampled paths.
            optimizer: Adam with beta1 = 0, so that alphas without a gradient stay.

        Returns:
            Scalars to log: held_out_loss, held_out_accuracy, expected_ms.
        """
        return self._step_of_all(images, labels, seed, optimizer)

    def _step(self, images, labels, seed, optimizer):
        alpha, mask = self._supernet.alpha, self._supernet.mask
        before = alpha.value.read_value()
        involved, active = self._sample(before, seed)
        gate_gradient, finite, ce, accuracy = self._gate_gradient(images, labels, involved, active)
        expected = self._cost.expected(gates.probabilities(before, mask))
        told = expected if self._expected_latency == "full" else self._cost.expected(
            gates.probabilities(before, gates.members(involved, mask.shape[1])))
        ce_weight, ms_weight = self._loss_slopes(ce, told)
        if self._paths == "all" and self._active_draw == "even":
            ce_gradient = gates.two_sided_gradient(before, mask, active, gate_gradient)
        else:
            ce_gradient = gates.alpha_gradient(before, involved, gate_gradient)
        # Expected latency is linear in the gates too: each op's milliseconds are its gate's gradient of it.
        op_ms = tf.gather(self._cost.matrix, tf.maximum(involved, 0), batch_dims=1)
        gradient = ce_weight * ce_gradient + ms_weight * gates.alpha_gradient(before, involved, op_ms)
        # Where float16 overflowed nothing is known of accuracy, and latency alone may not decide.
        optimizer.apply([replicas.share_of_sum(tf.where(finite, gradient, 0.0))], [alpha])
        if self._paths == "two":
            alpha.assign(gates.rescale(alpha.value.read_value(), before, involved))
        return {"held_out_loss": ce, "held_out_accuracy": accuracy, "expected_ms": expected}

    def _sample(self, alpha, seed):
        """The ops whose gates are asked for [choices, k], negative for none, and the active one [choices]."""
        mask = self._supernet.mask
        if self._paths == "two":
            pairs = gates.sample_pairs(alpha, mask, seed, self._active_draw)
            return pairs, pairs[:, 0]
        return tf.where(mask, tf.range(mask.shape[1])[None], -1), gates.sample_path(alpha, mask, seed)

    def _gate_gradient(self, images, labels, involved, active):
        """Gradients of the gates of the involved ops [choices, k], then as `gate_gradients`."""
        if self._paths == "all":
            return all_gate_gradients(self._supernet, images, labels, active)
        others = [[pair[1]] for pair in tf.unstack(involved)]
        rows, *rest = gate_gradients(self._supernet, images, labels, active, others)
        return tf.stack(rows), *rest

    def _loss_slopes(self, ce, expected):
        with tf.GradientTape() as tape:
            tape.watch([ce, expected])
            loss = self._latency_loss(ce, expected)
        return tape.gradient(loss, [ce, expected], unconnected_gradients="zero")


class ReinforceUpdater(keras.layers.Layer):
    """Alpha by REINFORCE (paper section 3.3.1): sampled networks are rewarded for accuracy and latency.

    Attributes:
        baseline: moving average of the mean reward; 0 before the first update.
    """

    def __init__(self, supernet: Supernet, cost: Cost, reward: Reward, samples: int = 10,
                 baseline_decay: float = 0.9):
        """Prepares the step.

        Args:
            supernet: whose alpha learns.
            cost: milliseconds of each op.
            reward: of a sampled network, see `cost.reward`.
            samples: networks an update.
            baseline_decay: share of the old baseline that stays at an update.
        """
        super().__init__(name="reinforce_updater")
        self._supernet, self._cost, self._reward_of = supernet, cost, reward
        self._samples, self._decay = samples, baseline_decay
        self.baseline = self.add_weight(name="baseline", shape=(), initializer="zeros", trainable=False)
        self.updates = self.add_weight(name="updates", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self._evaluate = replicas.on_all(supernet.distribute_strategy, self._reward)
        self._apply = replicas.on_all(supernet.distribute_strategy, self._policy_step)
        self.built = True

    def update(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Tensor]:
        """One architecture step; arguments and result as `GradientUpdater.update`, and `reward`."""
        samples = [self._evaluate(images, labels, one) for one in tf.random.split(seed, self._samples)]
        paths, rewards, losses, accuracies = (tf.stack(column) for column in zip(*samples, strict=True))
        expected = self._apply(paths, rewards, optimizer)
        return {"held_out_loss": tf.reduce_mean(losses), "held_out_accuracy": tf.reduce_mean(accuracies),
                "expected_ms": expected, "reward": tf.reduce_mean(rewards)}

    def _reward(self, images, labels, seed):
        path = gates.sample_path(self._supernet.alpha.value, self._supernet.mask, seed)
        logits = self._supernet(images, path)
        accuracy, ce = replicas.mean([accuracy_of(labels, logits), cross_entropy(labels, logits)])
        ms = self._cost.fixed + tf.reduce_sum(tf.gather(self._cost.matrix, path, batch_dims=1))
        return path, self._reward_of(accuracy, ms), ce, accuracy

    def _policy_step(self, paths, rewards, optimizer):
        alpha, mask = self._supernet.alpha, self._supernet.mask
        mean = tf.reduce_mean(rewards)
        # The baseline that is subtracted does not contain the rewards it is subtracted from.
        baseline = tf.where(self.updates.value > 0, self.baseline.value, mean)
        probs = gates.probabilities(alpha.value, mask)
        optimizer.apply([replicas.share_of_sum(gates.policy_gradient(probs, paths, rewards - baseline))], [alpha])
        self.baseline.assign(self._decay * baseline + (1.0 - self._decay) * mean)
        self.updates.assign_add(1)
        return self._cost.expected(probs)


def gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor, active: tf.Tensor,
                   others: list[list[tf.Tensor | int]]) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
    """Derivatives of the cross-entropy by the gates of some ops while one path runs (paper equation 3).

    Args:
        supernet: whose ops run.
        images: float32 [batch, height, width, channels].
        labels: int32 [batch].
        active: int32 [choices], the path.
        others: for each choice the further ops to observe.

    Returns:
        For each choice float32 [1 + others], the active op's first; whether they are finite, as they always are but
        in float16 (then they are 0); the cross-entropy; the accuracy. All are means over replicas.
    """
    rows = [tf.zeros([1 + len(row)]) for row in others]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(rows)
        logits = supernet.run_gated(images, active, others, rows)
        ce = cross_entropy(labels, logits)
        scaled = supernet.loss_scale.scaled(ce)
    *rows, ce, accuracy = replicas.mean([*tape.gradient(scaled, rows), ce, accuracy_of(labels, logits)])
    rows, finite = supernet.loss_scale.unscaled(rows)
    return rows, finite, ce, accuracy


def all_gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor,
                       active: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `gate_gradients`, of every op: float32 [choices, ops], 0 for ops that a choice lacks."""
    others = [list(range(count)) for count in supernet.mask.sum(1)]
    rows, *rest = gate_gradients(supernet, images, labels, active, others)
    # The active op is also one of all: its own gate stands first and is not needed twice.
    rows = [tf.pad(row[1:], [[0, supernet.mask.shape[1] + 1 - row.shape[0]]]) for row in rows]
    return tf.stack(rows), *rest


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Mean cross-entropy: labels int32 [batch], logits [batch, classes] -> scalar float32."""
    logits = tf.cast(logits, tf.float32)
    if not label_smoothing:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    classes = logits.shape[-1]
    goal = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(goal, logits))


def accuracy_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Share of images whose largest logit is the label's: scalar float32."""
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, -1, labels.dtype), labels), tf.float32))
