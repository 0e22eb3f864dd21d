"""The search as a Keras model: `fit` calls its `train_step`, which alternates weights and architecture."""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.data.loading import Part
from pnas_tf.network.evaluate import accuracy_of, cross_entropy
from pnas_tf.search import replicas
from pnas_tf.search.schedule import Schedule
from pnas_tf.supernet import gates
from pnas_tf.supernet.supernet import Supernet


class Searcher(keras.Model):
    """Trains a supernet's weights and alpha in turn (paper section 3.2).

    `train_step` runs in Python and calls two compiled functions: a weight step on training images with a
    sampled path and, where the batch brings held-out images, the updater's architecture step. Both run on every
    replica of the strategy in whose scope the supernet was made. The searcher itself is made outside of it, and
    hands each step to the replicas: so Keras' `fit` works under a strategy of several workers, too.

    Where there are several goals, steps take them in turn: a weight step samples its path from one goal's alpha,
    an architecture step moves one.

    Attributes:
        supernet: what is searched.
        updaters: of `arch_updaters`, one for each of the supernet's alphas.
        schedule: learning rates and phases.
        step: int32 scalar, weight steps done; kept in checkpoints.
        sums: of what the steps of the epoch so far log, by name: (total, number of steps).
    """

    def __init__(self, supernet: Supernet, updaters: keras.layers.Layer | Sequence[keras.layers.Layer],
                 schedule: Schedule, *, seed: int = 0,
                 label_smoothing: float = 0.1, momentum: float = 0.9, weight_decay: float = 4e-5,
                 class_weights: np.ndarray | None = None):
        """Binds the parts.

        Args:
            supernet: what is searched.
            updaters: how each alpha learns; a single one, or one for each.
            schedule: learning rates and phases.
            seed: of the sampled paths.
            label_smoothing: in weight steps.
            momentum: of SGD with Nesterov momentum.
            weight_decay: of SGD, on every weight of the sampled ops.
            class_weights: float32 [classes], of the loss of weight steps.
        """
        super().__init__(name="searcher")
        self.supernet, self.schedule = supernet, schedule
        self.updaters = list(updaters) if isinstance(updaters, Sequence) else [updaters]
        self._seed, self._label_smoothing = seed, label_smoothing
        self._momentum, self._weight_decay, self._class_weights = momentum, weight_decay, class_weights
        self.step = self.add_weight(name="step", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self._weight_step_of_all = replicas.on_all(supernet.distribute_strategy, self._weight_step)
        self.sums: dict[str, tuple[tf.Tensor, int]] = {}
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Sets the optimizer of alpha: see `alpha_optimizer`; made in the scope of the supernet's strategy.

        Each further goal gets one of its own, alike.
        """
        super().compile(optimizer=optimizer, run_eagerly=True)
        with self.supernet.distribute_strategy.scope():
            self.optimizers = [optimizer, *(type(optimizer).from_config(optimizer.get_config())
                                            for _ in self.updaters[1:])]
            for one, alpha in zip(self.optimizers, self.supernet.alphas, strict=True):
                one.build([alpha])

    def make_train_function(self, force=False):
        """`fit` hands a step's batch to `train_step` as it is: under a strategy, with the parts of all replicas."""
        self.train_function = lambda iterator: self.train_step(next(iterator))
        return self.train_function

    def train_step(self, data) -> dict[str, float]:
        """A weight step and, if held-out images came along, an architecture step.

        Args:
            data: from `alternating_batches`: ((images, labels), (held-out images, held-out labels)).

        Returns:
            Means of the epoch so far.
        """
        (images, labels), (held_images, held_labels) = data
        step = int(self.step.value.numpy())
        goals = len(self.updaters)
        logs = self._weight_step_of_all(images, labels, self._path_seed(2 * step), tf.constant(step % goals),
                                        tf.constant(self.schedule.weight_lr(step)))
        if replicas.local(held_images).shape[0]:
            seed, done = self._path_seed(2 * step + 1), self.schedule.arch_steps_before(step)
            if not done:
                self._calibrate(held_images, held_labels, seed)
            goal = done % goals
            found = self.updaters[goal].update(held_images, held_labels, seed, self.optimizers[goal])
            logs.update(found if goals == 1 else {f"{name}/{goal}": value for name, value in found.items()})
        self.step.assign_add(1)
        for name, value in logs.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        return {name: total / count for name, (total, count) in self.sums.items()}

    def reset_metrics(self) -> None:
        """Starts the means of a new epoch; those of one that was interrupted in the middle stay."""
        super().reset_metrics()
        if int(self.step.value.numpy()) % self.schedule.steps_per_epoch == 0:
            self.sums.clear()

    def go_on(self, batches_from: Callable[[int], Iterable], callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Runs `fit` to the end of the schedule, from wherever the search is; the middle of an epoch, too.

        Args:
            batches_from: from a weight step to the batches of the search from that step on.
            callbacks: of `fit`.
        """
        plan, done = self.schedule, int(self.step.value.numpy())
        epoch, begun = divmod(done, plan.steps_per_epoch)
        if begun:  # fit has only epochs of one length: first the rest of this one
            self._fit(batches_from(done), callbacks, epoch, epoch + 1, plan.steps_per_epoch - begun)
            epoch += 1
        if epoch < plan.epochs:
            self._fit(batches_from(epoch * plan.steps_per_epoch), callbacks, epoch, plan.epochs, plan.steps_per_epoch)

    def _fit(self, batches, callbacks, first_epoch, epochs, steps):
        self.fit(batches, initial_epoch=first_epoch, epochs=epochs, steps_per_epoch=steps, verbose=0, shuffle=False,
                 callbacks=list(callbacks))

    def _calibrate(self, images, labels, seed):
        """Before the first architecture step: what a change of cost is worth, by what the warm-up has learned."""
        if any(updater.multipliers and hasattr(updater, "calibrate") for updater in self.updaters):
            swaps = self.updaters[0].measure_swaps(images, labels, seed)
            for updater in self.updaters:
                updater.calibrate(*swaps)
            scales = ", ".join(f"{float(multiplier.scale.value.numpy()):.3g} ({multiplier.name})"
                               for updater in self.updaters for multiplier in updater.multipliers)
            print(f"Multipliers at which cost and accuracy pull alike, in nats: {scales}.", flush=True)

    def _path_seed(self, number):
        return tf.constant([self._seed, number], tf.int32)

    def _weight_step(self, images, labels, seed, goal, learning_rate):
        net = self.supernet
        path = gates.sample_path(tf.stack([alpha.value for alpha in net.alphas])[goal], net.mask, seed)
        probes = net.probes()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(probes)
            logits = net.run_path(images, path, probes)
            loss = cross_entropy(labels, logits, self._label_smoothing, self._class_weights)
            scaled = net.loss_scale.scaled(loss)
        *gradients, loss, accuracy = replicas.mean([*tape.gradient(scaled, probes), loss, accuracy_of(labels, logits)])
        net.loss_scale.descend(gradients, lambda gradients: net.update(path, gradients, learning_rate, self._momentum,
                                                                       self._weight_decay))
        return {"train_loss": loss, "train_accuracy": accuracy}


def alpha_optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
    """Adam without momentum: an alpha whose gradient is 0 stays where it is (paper section 3.2.1)."""
    return keras.optimizers.Adam(learning_rate, beta_1=0.0, beta_2=0.999, epsilon=1e-8)


def alternating_batches(train: Part, held_out: Part, schedule: Schedule, batch_size: int, seed: int,
                        first_step: int = 0, devices: tf.distribute.Strategy | None = None, cutout: int = 0
                        ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches of a search from weight step `first_step` to its end.

    Each element holds a training batch and a held-out batch; the latter has no images where no
    architecture step is due.

    Args:
        train: training part, augmented.
        held_out: held-out part, not augmented.
        schedule: says when an architecture step is due.
        batch_size: of both, all replicas together.
        seed: of order and augmentation; the same batches come whether or not the search was interrupted.
        first_step: weight steps already done.
        devices: for whose replicas; None for a single one.
        cutout: of training images, see `Part.batches`.

    Returns:
        Dataset of ((images, labels), (held-out images, held-out labels)).
    """
    due = np.array([schedule.arch_due(step) for step in range(first_step, schedule.steps)], np.int64)

    def of(share):
        weights = train.batches(batch_size, augment=True, cutout=cutout, seed=seed, skip_steps=first_step,
                                share=share)
        archs = held_out.batches(batch_size, seed=seed + 1, skip_steps=schedule.arch_steps_before(first_step),
                                 share=share)
        image_spec, label_spec = archs.element_spec
        nothing = tf.data.Dataset.from_tensors((tf.zeros([0, *image_spec.shape[1:]], image_spec.dtype),
                                                tf.zeros([0], label_spec.dtype))).repeat()
        turns = tf.data.Dataset.from_tensor_slices(np.repeat(due, share.count))
        alternating = tf.data.Dataset.choose_from_datasets([nothing, archs], turns, stop_on_empty_dataset=False)
        return tf.data.Dataset.zip((weights, alternating)).prefetch(2 * share.count)

    return replicas.distribute(devices or tf.distribute.get_strategy(), of)
