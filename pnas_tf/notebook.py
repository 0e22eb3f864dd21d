"""A search in a few lines of Python, for notebooks and programs.

    search = Search("quickstart", "x86_xnnpack1_float32", "fashion_mnist_small", target_ms=0.2)
    search.fit(callbacks=[...])
    model = build_network(search.arch())

It lives in memory. A search that has to survive the program, that resumes, and that has a report is one of the command
`python -m pnas_tf.search`. docs/quickstart.ipynb shows the way from a table to a `.tflite`.
"""

from collections.abc import Sequence

import keras

from pnas_tf import data, network
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table, limits
from pnas_tf.derive import deliver, finalists
from pnas_tf.search import build as search_build
from pnas_tf.search import schedule, searcher, stopping
from pnas_tf.space import blocks, spaces
from pnas_tf.space.arch import Arch
from pnas_tf.supernet import path_scorer


class Search:
    """The best network for a data set within the milliseconds of a device.

    Attributes:
        space: what is searched, fitted to the data.
        data: what it is searched for.
        goal: milliseconds and limits.
        searcher: the Keras model that `fit` trains; its `supernet` has probabilities and weights.
    """

    def __init__(self, search_space: blocks.Space | str, table: latency_table.LatencyTable | str,
                 images: data.Data | str, *, target_ms: float = 0.0, limit: Sequence[str] = (),
                 warmup_epochs: int = 40, search_epochs: int = 120,
                 arch_every: int = 5, batch_size: int = 256, warmup_lr: float = 0.05, lr: float = 0.025, seed: int = 0):
        """Builds the supernet.

        Args:
            search_space: a space, the name of one, or the path of a JSON file.
            table: of the device; read, or its file or name.
            images: loaded, or what `data.load` takes.
            target_ms: wanted milliseconds, never exceeded; 0: 0.75 of a random network's.
            limit: further limits, as `params<=3e6`.
            warmup_epochs: before alpha starts to learn.
            search_epochs: with architecture steps.
            arch_every: weight steps for each architecture step.
            batch_size: images a step.
            warmup_lr: weight learning rate at the start of the warm-up.
            lr: weight learning rate at the start of the search.
            seed: of everything random.

        Raises:
            InputError: if the table lacks rows, or no network keeps all limits.
        """
        found = spaces.load(search_space) if isinstance(search_space, str) else search_space
        table = latency_table.read(table) if isinstance(table, str) else table
        self.data = data.load(images, image_size=found.input_size, seed=seed) if isinstance(images, str) else images
        bounds = [limits.parse(text) for text in limit]
        found = found.for_data(self.data.image_shape[0], self.data.image_shape[2], self.data.num_classes)
        self.space = limits.within_peaks(found, bounds, [table.header.get("dtype")])
        table.check_covers(self.space)
        self.goal = goals_lib.feasible(self.space, table, target_ms,
                                [(name, bound) for name, bound in bounds if name != limits.PEAK], keeps_ms=True)
        self._batch_size, self._seed = min(batch_size, self.data.train.size), seed
        self._plan = schedule.Schedule(self.data.train.steps_per_epoch(self._batch_size), warmup_epochs, search_epochs,
                                       arch_every, warmup_lr, lr)
        self.searcher = search_build.compiled_searcher(self.space, [self.goal], self._plan, seed=seed)

    def fit(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> keras.callbacks.History:
        """Searches to the end of the plan. Interrupted and called again, it goes on.

        Args:
            callbacks: as for any Keras model; their logs are train_loss, train_accuracy, held_out_loss, ...

        Returns:
            Keras' history of the logs.

        Raises:
            InputError: if a loss is no finite number, or an image is broken.
        """
        with data.naming_broken_images():
            self.searcher.go_on(lambda step: searcher.alternating_batches(
                self.data.train, self.data.held_out, self._plan, self._batch_size, self._seed, step),
                [stopping.StopOnNonFinite(), *callbacks])
        return self.searcher.history

    def arch(self) -> Arch:
        """The network found so far, within all limits: of the likely ones, that of the lowest held-out loss."""
        net, batches = self.searcher.supernet, self.data.held_out.batches(self._batch_size)
        probs = net.probs().numpy()
        scorer = path_scorer.PathScorer(net, batches.take(deliver.batches(self.data.image_shape, self._batch_size)))
        arch = deliver.delivered_arch(finalists.find(net, probs, self.goal, scorer, seed=self._seed), self.goal, probs)
        model = network.build_network(arch)
        return arch.with_costs(params=network.count_params(model), macs=network.count_macs(model))

    def inherited(self, arch: Arch) -> keras.Model:
        """The network of an arch of this space with the weights that it has in the supernet: a start for training."""
        model = network.build_network(arch)
        self.searcher.supernet.copy_weights_to(model, arch)
        return model
