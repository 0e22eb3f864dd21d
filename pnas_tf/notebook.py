"""A search in a few lines of Python, for notebooks and programs.

    search = Search("quickstart", "x86_xnnpack1_float32", "fashion_mnist_small", target_ms=0.2)
    search.fit(callbacks=[...])
    model = build_network(search.arch())

The search lives in memory. For a search that survives the program, can be resumed and has a report, use the command
`python -m pnas_tf.search`. docs/quickstart.ipynb leads from a latency table to a `.tflite`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pnas_tf import data as data_lib
from pnas_tf import network, terminal, workspaces
from pnas_tf.cost import latency_table
from pnas_tf.cost import limits as limits_lib
from pnas_tf.cost.goal import Goal
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.data import Data, arrays
from pnas_tf.derive import deliver, front
from pnas_tf.derive.pool import Pool
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import build, searcher, teaching
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.search.stopping import StopOnNonFinite
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space
from pnas_tf.supernet.path_scorer import PathScorer

# Settings that need a run folder or several networks.
OF_THE_COMMAND = ("targets", "image_sizes", "stages", "init_weights", "trials", "trial_epochs", "strategy", "replicas",
                  "bn_recalibration_batches", "checkpoint_minutes")


class Search:
    """A search for the best network for a data set within a number of milliseconds on a device.

    Attributes:
        problem: The task: space, data, goals, schedule.
        config: Every setting of the search.
        searcher: The Keras model that `fit` trains; its `supernet` holds probabilities and weights.
    """

    def __init__(self, search_space: Space | str, table: LatencyTable | str,
                 images: Data | str | arrays.Images | tuple[arrays.Images, arrays.Images], **settings: Any):
        """Builds the supernet. Trains the teacher first if the search has one, as it has from a pretrained network.

        Args:
            search_space: A space, the name of one, or the path of a JSON file.
            table: Latency table of the device, the path of its file, or the name of a shipped table.
            images: Data set, or its spec for `data.load`; or images in memory: arrays (x, y), a finite
                `tf.data.Dataset`, or a pair of either for training and test, as for `data.from_arrays`.
            **settings: Fields of `SearchConfig`, such as target_ms=0.2, limit=["params<=3e6"], batch_size=64 or
                teacher="none".

        Raises:
            InputError: If a setting is wrong, the table lacks rows, or no network keeps all limits.
        """
        known = [field.name for field in dataclasses.fields(SearchConfig)]
        if unknown := sorted(set(settings) - set(known)):
            raise InputError(f"Search has no setting {unknown[0]!r}. Settings: {', '.join(known)}.")
        table = latency_table.read(table) if isinstance(table, str) else table
        space = spaces.load(search_space) if isinstance(search_space, str) else search_space
        limit = tuple(settings.pop("limit", ()))
        is_spec = isinstance(images, str)
        if is_spec:
            settings["dataset"] = images
        elif isinstance(images, Data):
            settings["image_size"] = images.image_shape[0]
        else:
            settings["dataset"] = arrays.NAME
        self.config = SearchConfig(space=space.name, table=table.path, limit=limit, **settings)
        _refuse_settings_of_the_command(self.config)
        request = Request.of(self.config, space, table)
        limits_lib.refuse_whole_networks(request.bounds)
        if is_spec:
            images = request.load_data()
        elif not isinstance(images, Data):
            images = _in_memory(images, self.config, request.space)
        self.problem = Problem.of(request, images)
        for note in self.problem.notes():
            terminal.say(note)
        terminal.say(self.goal.summary())
        if self.goal.table_doubt:
            terminal.warn(self.goal.table_doubt)
        # Images in memory are there at one size, which is then the teacher's, too.
        teacher_size = self.problem.largest_size if self.data.rendering or is_spec else 0
        with workspaces.temporary_folder() as path:
            folder = RunFolder(path)
            self._criterion = teaching.criterion_of(self.config, self.space, self.data, folder, teacher_size)
            self.searcher = build.compiled_searcher(self.problem, self.config, criterion=self._criterion)
            if self.space.pretrained:
                teaching.start_from_pretrained(self.searcher.supernet, RunFolder(folder.teacher).model)

    @property
    def space(self) -> Space:
        """The space that is searched, fitted to the data."""
        return self.problem.space

    @property
    def data(self) -> Data:
        """The data set, split into training, held-out and test images."""
        return self.problem.data

    @property
    def goal(self) -> Goal:
        """The goal of the search: milliseconds and further limits."""
        return self.problem.goals[0]

    def fit(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> keras.callbacks.History:
        """Searches to the end of the schedule. After an interruption, another call continues the search.

        Args:
            callbacks: Callbacks as for any Keras model; their logs are train_loss, train_accuracy, held_out_loss, ...

        Returns:
            Keras' history of the logs.

        Raises:
            InputError: If a loss is not finite, or an image is broken.
        """
        problem, config = self.problem, self.config
        with data_lib.naming_broken_images(self.data):
            self.searcher.go_on(lambda step: searcher.alternating_batches(
                self.data.train, self.data.held_out, problem.plan, problem.batch_size, config.seed, step,
                changes=build.changes(problem, config)), [StopOnNonFinite(), *callbacks])
        return self.searcher.history

    def arch(self) -> Arch:
        """The network that the search delivers: the best within all limits, or a quicker one that is as good."""
        net, size = self.searcher.supernet, self.problem.batch_size
        probs = net.probs().numpy()
        choice = deliver.LastChoice(size, seed=self.config.seed, use_all_ms=self.config.use_all_ms,
                                    with_training_images=self.problem.frozen)
        scorer = PathScorer(net, self.data.held_out.batches(size).take(1), self._criterion.without_smoothing())
        pool = Pool(self.goal, probs, deliver.scores_of(net.space, scorer, self.data, choice))
        front.explore(pool, front.budgets(self.goal, self.config.front), self.config.seed)
        best = deliver.by_table(pool, choice)[0]
        model = network.build_network(best.arch)
        return deliver.delivered_arch(best, self.goal, probs).with_costs(
            params=network.count_params(model), macs=network.count_macs(model))

    def inherited(self, arch: Arch) -> keras.Model:
        """The network of an arch of this space with its weights from the supernet, as a start for training."""
        model = network.build_network(arch)
        self.searcher.supernet.copy_weights_to(model, arch)
        return model


def _in_memory(images: Any, config: SearchConfig, space: Space) -> Data:
    """The data set of images in memory, at the size of the space."""
    is_pair = isinstance(images, tuple | list) and len(images) == 2 and all(
        isinstance(part, tf.data.Dataset | tuple | list) for part in images)
    train, test = images if is_pair else (images, None)
    return data_lib.from_arrays(train, test, image_size=space.input_size, held_out_size=config.held_out_size or None,
                                seed=config.seed, normalisation=space.normalisation)


def _refuse_settings_of_the_command(config: SearchConfig) -> None:
    for field in dataclasses.fields(config):
        if field.name in OF_THE_COMMAND and getattr(config, field.name) != field.default:
            raise InputError(f"{field.name} needs a run folder: use python -m pnas_tf.search --{field.name}=...")
