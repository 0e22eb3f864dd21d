"""The search as a Keras model: `fit` calls its `train_step`, which trains weights and architecture in turn."""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.data.parts import USUAL, Changes, Part
from pnas_tf.network.criterion import SMOOTHED, Criterion
from pnas_tf.network.evaluate import accuracy_of
from pnas_tf.search import arch_updaters, replicas
from pnas_tf.search.schedule import Schedule
from pnas_tf.supernet import gates
from pnas_tf.supernet.supernet import Supernet


class Searcher(keras.Model):
    """Trains a supernet's weights and alpha in turn (paper section 3.2).

    `train_step` runs in Python and calls two compiled functions:

        weight step        on training images: one path is sampled from softmax(alpha), and SGD with Nesterov momentum
                           moves the weights of its ops
        architecture step  on held-out images, in steps that have some: an updater moves alpha; weights do not change

    Both run on every replica of the strategy in whose scope the supernet was made. The searcher itself is made outside
    that scope and hands each step to the replicas, so that Keras' `fit` also works with several workers.

    With several goals, the steps alternate between the goals: a weight step samples its path from the alpha of one
    goal, and an architecture step moves the alpha of one goal.

    Attributes:
        supernet: Supernet that is searched.
        updaters: Updaters from `arch_updaters`, one for each of the supernet's alphas.
        schedule: Learning rates and phases.
        step: Number of weight steps done, int32 scalar; kept in checkpoints.
        sums: Sum over the steps of the epoch so far and number of these steps, by logged name.
    """

    def __init__(self, supernet: Supernet, updaters: keras.layers.Layer | Sequence[keras.layers.Layer],
                 schedule: Schedule, *, seed: int = 0,
                 criterion: Criterion = SMOOTHED, momentum: float = 0.9,
                 weight_decay: float = 4e-5, jit_compile: bool = False):
        """Stores the parts, and compiles the weight step.

        Args:
            supernet: Supernet to search.
            updaters: Updater of the only alpha, or a sequence with one for each alpha.
            schedule: Learning rates and phases.
            seed: Seed of the sampled paths.
            criterion: Loss of weight steps.
            momentum: Nesterov momentum of SGD in weight steps.
            weight_decay: Weight decay of SGD, on every weight of the sampled ops.
            jit_compile: Whether XLA compiles weight steps, as in `replicas.by_xla`; the supernet has to recompute.
        """
        super().__init__(name="searcher")
        self.supernet, self.schedule = supernet, schedule
        self.updaters = list(updaters) if isinstance(updaters, Sequence) else [updaters]
        self._seed, self._criterion, self._momentum, self._weight_decay = seed, criterion, momentum, weight_decay
        self.step = self.add_weight(name="step", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self._trained = replicas.by_xla(self._train_path, jit_compile)
        self._weight_step_of_all = replicas.on_all(supernet.distribute_strategy, self._weight_step)
        self.sums: dict[str, tuple[tf.Tensor, int]] = {}
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Sets the optimizer of alpha; each further goal gets an optimizer of its own with the same settings.

        Args:
            optimizer: Result of `alpha_optimizer`, made in the scope of the supernet's strategy.
        """
        super().compile(optimizer=optimizer, run_eagerly=True)
        with self.supernet.distribute_strategy.scope():
            self.optimizers = [optimizer, *(type(optimizer).from_config(optimizer.get_config())
                                            for _ in self.updaters[1:])]
            for each, alpha in zip(self.optimizers, self.supernet.alphas, strict=True):
                each.build([alpha])

    def make_train_function(self, force=False):
        """Makes `fit` pass each batch to `train_step` unchanged: under a strategy, with the parts of all replicas."""
        self.train_function = lambda iterator: self.train_step(next(iterator))
        return self.train_function

    def train_step(self, data) -> dict[str, float]:
        """A weight step and, if the batch has held-out images, an architecture step.

        Args:
            data: Element of `alternating_batches`: ((images, labels), (held-out images, held-out labels)). Images are
                float32 [batch, height, width, channels], labels int32 [batch].

        Returns:
            Means over the epoch so far, by name.
        """
        (images, labels), (held_images, held_labels) = data
        step = int(self.step.value.numpy())
        goals = len(self.updaters)
        logs = self._weight_step_of_all(images, labels, self._path_seed(2 * step), tf.constant(step % goals),
                                        tf.constant(self.schedule.weight_lr(step)))
        if replicas.local(held_images).shape[0]:
            seed, done = self._path_seed(2 * step + 1), self.schedule.arch_steps_before(step)
            if not done:
                arch_updaters.calibrate(self.updaters, held_images, held_labels, seed)
            goal = done % goals
            arch_logs = self.updaters[goal].update(held_images, held_labels, seed, self.optimizers[goal])
            logs.update(arch_logs if goals == 1 else {f"{name}/{goal}": value for name, value in arch_logs.items()})
        self.step.assign_add(1)
        for name, value in logs.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        return {name: total / count for name, (total, count) in self.sums.items()}

    def reset_metrics(self) -> None:
        """Resets the means at the start of an epoch. An epoch that continues after an interruption keeps its means."""
        super().reset_metrics()
        if int(self.step.value.numpy()) % self.schedule.steps_per_epoch == 0:
            self.sums.clear()

    def go_on(self, batches_from: Callable[[int], Iterable], callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Runs `fit` from the current step, which may be in the middle of an epoch, to the end of the schedule.

        Args:
            batches_from: Function from the number of a weight step to the batches of the search from that step on.
            callbacks: Callbacks of `fit`.
        """
        plan, done = self.schedule, int(self.step.value.numpy())
        epoch, steps_in_epoch = divmod(done, plan.steps_per_epoch)
        if steps_in_epoch:  # all epochs of one `fit` have the same length, so the rest of this epoch needs its own
            self._fit(batches_from(done), callbacks, epoch, epoch + 1, plan.steps_per_epoch - steps_in_epoch)
            epoch += 1
        if epoch < plan.epochs:
            self._fit(batches_from(epoch * plan.steps_per_epoch), callbacks, epoch, plan.epochs, plan.steps_per_epoch)

    def _fit(self, batches, callbacks, first_epoch, epochs, steps):
        self.fit(batches, initial_epoch=first_epoch, epochs=epochs, steps_per_epoch=steps, verbose=0, shuffle=False,
                 callbacks=list(callbacks))

    def _path_seed(self, number):
        """The seed of a step's paths, int32 [2]: even numbers for weight steps, odd numbers for architecture steps."""
        return tf.constant([self._seed, number], tf.int32)

    def _weight_step(self, images, labels, seed, goal, learning_rate):
        net = self.supernet
        path = gates.sample_path(tf.stack([alpha.value for alpha in net.alphas])[goal], net.mask, seed)
        return self._trained(images, labels, path, learning_rate)

    def _train_path(self, images, labels, path, learning_rate):
        net = self.supernet
        probes, taught = net.probes(), self._criterion.taught(images)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(probes)
            logits = net.run_path(images, path, probes)
            loss = self._criterion.loss(labels, logits, taught)
            scaled = net.loss_scale.scaled(loss)
        *gradients, loss, accuracy = replicas.mean([*tape.gradient(scaled, probes), loss, accuracy_of(labels, logits)])
        net.loss_scale.descend(gradients, lambda gradients: net.update(path, gradients, learning_rate, self._momentum,
                                                                       self._weight_decay))
        return {"train_loss": loss, "train_accuracy": accuracy}


def alpha_optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
    """The optimizer of alpha: Adam with beta1 = 0, so that an alpha whose gradient is 0 does not move.

    In a two-path step only the alphas of the sampled ops may change (paper section 3.2.1).

    Args:
        learning_rate: Learning rate of alpha, see `schedule.alpha_lr`.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=0.0, beta_2=0.999, epsilon=1e-8)


def alternating_batches(train: Part, held_out: Part, schedule: Schedule, batch_size: int, seed: int,
                        first_step: int = 0, devices: tf.distribute.Strategy | None = None, changes: Changes = USUAL
                        ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches of a search from weight step `first_step` to its end.

    Each element holds a training batch and a held-out batch. The held-out batch is empty in steps without an
    architecture step. An interrupted search gets the same batches as an uninterrupted search.

    Args:
        train: Training images; they are augmented.
        held_out: Held-out images; they are not augmented.
        schedule: Schedule, which determines when an architecture step is due.
        batch_size: Images in each of the two batches, over all replicas.
        seed: Seed of order and augmentation.
        first_step: Number of weight steps already done.
        devices: Strategy whose replicas share the batches; None for the current strategy.
        changes: How training images are changed.

    Returns:
        Dataset of ((images, labels), (held-out images, held-out labels)).
    """
    due = np.array([schedule.arch_due(step) for step in range(first_step, schedule.steps)], np.int64)

    def batches_of(share):
        training = train.batches(batch_size, augment=True, changes=changes, seed=seed, skip_steps=first_step,
                                 share=share)
        held = held_out.batches(batch_size, seed=seed + 1, skip_steps=schedule.arch_steps_before(first_step),
                                share=share)
        image_spec, label_spec = held.element_spec
        empty = tf.data.Dataset.from_tensors((tf.zeros([0, *image_spec.shape[1:]], image_spec.dtype),
                                              tf.zeros([0], label_spec.dtype))).repeat()
        turns = tf.data.Dataset.from_tensor_slices(np.repeat(due, share.count))
        held_or_empty = tf.data.Dataset.choose_from_datasets([empty, held], turns, stop_on_empty_dataset=False)
        return tf.data.Dataset.zip((training, held_or_empty)).prefetch(2 * share.count)

    return replicas.distribute(devices or tf.distribute.get_strategy(), batches_of)
