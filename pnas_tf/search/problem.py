"""The task of a search: the space fitted to the data, the goals and the schedule."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pnas_tf.cost import image_size, latency_table, table_commands
from pnas_tf.cost import limits as limits_lib
from pnas_tf.cost.goal import Goal, check_limits, check_reachable, goal_for
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.data import spec
from pnas_tf.errors import InputError
from pnas_tf.files import read_json
from pnas_tf.run_folder import RunFolder
from pnas_tf.search.config import ALL, AUTO, FROZEN, TEACHERS, SearchConfig
from pnas_tf.search.schedule import Schedule
from pnas_tf.space import memory, spaces, whole_blocks
from pnas_tf.space.blocks import Space
from pnas_tf.train.recipe import check_teacher_flag

if TYPE_CHECKING:
    from pnas_tf.data import Data

# Tables with the requested milliseconds; 0 for the default.
Targets = Sequence[tuple[LatencyTable, float]]


@dataclasses.dataclass(frozen=True)
class Request:
    """The space, tables and limits that a config names, read and checked without images and without TensorFlow.

    Attributes:
        config: Settings of the search.
        space: Space at the size of the images, not yet fitted to their channels and classes.
        targets: Tables and milliseconds.
        bounds: Further limits.
        largest_size: Largest image size at which the tables price the space; a teacher sees images of this size.
        named_by: Flags that name the space, for commands to paste.
        sides: Sizes of the images if there are several, largest first, which is that of the space.
    """

    config: SearchConfig
    space: Space
    targets: Targets
    bounds: tuple[limits_lib.Bound, ...]
    largest_size: int
    named_by: Sequence[str] = ()
    sides: tuple[int, ...] = ()

    @staticmethod
    def of(config: SearchConfig, space: Space | None = None, table: LatencyTable | None = None) -> "Request":
        """Reads the files that a config names.

        Args:
            config: Settings of the search.
            space: Space in place of the config's.
            table: Table in place of the config's.

        Raises:
            InputError: If a space, a table or a limit is wrong, or no network reaches a target.
        """
        named_by = table_commands.named_by(space.name if space else config.space, config.width_mult)
        space = (space or spaces.load(config.space)).scaled(config.width_mult)
        check_teacher_flag(config.teacher, TEACHERS)
        _check_split(config)
        targets = [_target(text) for text in config.targets] or [
            (table or _table(config.table, config.space), config.target_ms)]
        if config.stages != ALL:
            _check_stages(space, config, len(targets))
        sides = _several_sizes(config, space, targets) if config.image_sizes else ()
        size, largest = (sides[0], sides[0]) if sides else _image_size(config, space, targets)
        bounds = tuple(limits_lib.parse(text) for text in config.limit)
        for side in sides or (size,):
            _check_size(dataclasses.replace(space, input_size=side), config, targets, bounds)
        space = dataclasses.replace(space, input_size=size)
        return Request(config, space, targets, bounds, largest, named_by, sides)

    def at_size(self, side: int) -> "Request":
        """The same request for images of one of `sides`."""
        return dataclasses.replace(self, space=dataclasses.replace(self.space, input_size=side))

    def load_data(self) -> "Data":
        """The images that the config names, at the size of the space; files are prepared for the largest size."""
        return load_data(self.config, self.space, self.largest_size)

    def pretrained_ms(self, table: LatencyTable) -> float | None:
        """Milliseconds of the whole pretrained network for images of `largest_size`.

        Args:
            table: Latency table of a target.

        Returns:
            None if the space starts from no such network, or the table lacks rows of it.
        """
        if not self.space.pretrained or self.largest_size not in image_size.sizes(self.space, table):
            return None
        return image_size.whole_ms(dataclasses.replace(self.space, input_size=self.largest_size), table)


def load_data(config: SearchConfig, space: Space, largest_size: int = 0) -> "Data":
    """The images that a config names, at the size of a space.

    Args:
        config: Settings of the search.
        space: Space, which may have a normalisation of its own.
        largest_size: Size for which image files are prepared, if it is larger.
    """
    from pnas_tf import data as data_lib

    def load(side):
        return data_lib.load(config.dataset, image_size=side, held_out_size=config.held_out_size or None,
                             seed=config.seed, data_dir=config.data_dir, broken_images=config.broken_images,
                             background=config.background, normalisation=space.normalisation)

    side = space.input_size
    data = load(max(side, largest_size))
    if data.image_shape[0] == side:
        return data
    return data.at_size(side) if data.rendering else load(side)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The task of a search. The command and `pnas_tf.Search` make it in the same way.

    Attributes:
        space: Space fitted to the data.
        data: Images.
        goals: Goals, one network for each. Several goals share the trained weights.
        tables: Latency table of each goal.
        plan: Phases and learning rates.
        batch_size: Images per step; at most the number of training images.
        largest_size: Image size of a teacher that the search trains; 0 for that of the search.
        frozen: Whether batch norm keeps the statistics of the initial weights.
        compared_at: Image size that determines how many held-out images finalists are compared on; 0 for that of the
            search. Searches at several sizes are compared on the same images.
    """

    space: Space
    data: "Data"
    goals: tuple[Goal, ...]
    tables: tuple[LatencyTable, ...]
    plan: Schedule
    batch_size: int
    largest_size: int = 0
    frozen: bool = False
    compared_at: int = 0

    def notes(self) -> Iterator[str]:
        """Sentences for the user about what was chosen for the target and for the number of images."""
        side, pretrained = self.space.input_size, self.space.pretrained
        if self.largest_size > side:
            yield (f"Images of {side} x {side} pixels suit the target; the table also has larger ones, up to "
                   f"{self.largest_size}. --image_size chooses others.")
        if pretrained and whole_blocks.only(self.space) == self.space:
            yield (f"Each block of {pretrained} stays whole or is left out: parts of blocks need more images to learn "
                   "from. --pretrained_parts=ops allows them.")

    @staticmethod
    def of(request: Request, data: "Data") -> "Problem":
        """Fits a request to the images.

        Args:
            request: Space, tables and limits of the config.
            data: Images.

        Raises:
            InputError: If a table lacks rows, or no network keeps all limits.
        """
        config = request.config
        space = request.space.fitted_to(data)
        if config.batch_norm == FROZEN and not (space.pretrained or config.init_weights):
            raise InputError("--batch_norm=frozen needs trained weights: blocks with a shortcut start at a scale of 0, "
                             f"and would stay there. Space {space.name} has none; give --init_weights or "
                             "--batch_norm=batch.")
        if config.takes_whole_blocks(space, data.train.size):
            space = _of_whole_blocks(space, request)
        space = limits_lib.within_peaks(space, request.bounds, [table for table, _ in request.targets])
        goals = []
        for table, target_ms in request.targets:
            table.check_covers(space, request.named_by)
            goal = goal_for(space, table, target_ms, request.bounds, keeps_ms=config.latency_loss != "none")
            goals.append(dataclasses.replace(goal, pretrained_ms=request.pretrained_ms(table)))
        if len({goal.name for goal in goals}) < len(goals):
            raise InputError("--targets names a table twice with the same milliseconds.")
        lengths = config.lengths(space, data.train.size)
        batch_size = lengths.batch_size
        plan = Schedule(data.train.steps_per_epoch(batch_size), lengths.warmup_epochs, lengths.search_epochs,
                        lengths.arch_every, lengths.warmup_lr, lengths.lr)
        plan = plan.squeezed(config.max_steps) if config.max_steps else plan
        return Problem(space, data, tuple(goals), tuple(table for table, _ in request.targets), plan, batch_size,
                       request.largest_size, config.freezes(space, data.train.size))

    def within(self, space: Space, config: SearchConfig) -> "Problem":
        """The same task in a part of the space, with the same milliseconds.

        Args:
            space: Part of the space.
            config: Settings of the search.

        Raises:
            InputError: If no network of the part keeps all limits.
        """
        bounds = tuple(limits_lib.parse(text) for text in config.limit)
        goals = tuple(dataclasses.replace(goal_for(space, table, goal.target_ms, bounds, keeps_ms=goal.keeps_ms),
                                          table_doubt=goal.table_doubt)  # the table was compared with the whole space
                      for table, goal in zip(self.tables, self.goals, strict=True))
        return dataclasses.replace(self, space=space, goals=goals)


def _of_whole_blocks(space: Space, request: Request) -> Space:
    """The space of whole blocks, unless only smaller ones reach a target and the config leaves the choice."""
    whole = whole_blocks.only(space)
    try:
        _check_whole_blocks(whole, request)
    except InputError:
        if request.config.pretrained_parts == AUTO:
            return space
        raise
    return whole


def _check_whole_blocks(whole: Space, request: Request) -> None:
    """Raises InputError if a space of whole blocks has nothing to choose, or no network of it reaches a target."""
    if not whole.choices:
        raise InputError(f"--pretrained_parts=blocks: {whole.name} has no block that may be left out.")
    for table, target_ms in request.targets if request.config.latency_loss != "none" else ():
        if target_ms:
            check_reachable(whole, table, target_ms)


def _check_stages(space: Space, config: SearchConfig, targets: int) -> None:
    """Raises InputError if a search of this space and number of targets cannot have two stages."""
    flag = f"--stages={config.stages}"
    if not space.width_choices:
        raise InputError(f"{flag} needs a space in which filters are searched, and {space.name} has one number of "
                         f"filters for each block. Name another, such as --space=cifar_mb{spaces.WIDTHS}.")
    if targets > 1:
        raise InputError(f"{flag} needs one target, since each has filters of its own, got {targets}. Search for each "
                         "in a run of its own.")
    if config.init_weights:
        raise InputError(f"{flag} starts each stage from scratch: leave out --init_weights.")
    if config.strategy == "multi_worker":
        raise InputError(f"{flag} runs on one machine: leave out --strategy=multi_worker.")


def _check_split(config: SearchConfig) -> None:
    """Refuses weights and teachers that were trained on images which are held out now: they know them.

    Raises:
        InputError: If --init_weights or --teacher is of a run on the same data set with another split.
    """
    for path in (config.init_weights, config.teacher if os.path.isfile(config.teacher) else ""):
        used = _split_of(path) if path else {}
        if not spec.is_same(str(used.get("dataset")), config.dataset):
            continue
        for name in ("seed", "held_out_size"):
            there, here = str(used.get(name) or 0), str(getattr(config, name))
            if there != here:
                raise InputError(f"{path}: was trained on images that are held out now, since its split is another "
                                 f"(--{name}={there[:20]}, here {here}). Give --{name}={there[:20]}.")


def _split_of(path: str) -> dict[str, Any]:
    """What decided the split of a run or of the run of a .keras file: dataset, seed, held_out_size; {} if unknown.

    A teacher lies in a folder of the search's, whose flags count.
    """
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    for run in (RunFolder(folder), RunFolder(os.path.dirname(os.path.abspath(folder)))):
        if os.path.exists(run.flags):
            return dict(run.read_flags())
        facts = read_json(run.training_facts) if os.path.exists(run.training_facts) else None
        record = facts.get("data") if isinstance(facts, dict) else None
        if isinstance(record, dict):
            return record
    return {}


def _image_size(config: SearchConfig, space: Space, targets: Targets) -> tuple[int, int]:
    """Size of the images of the search, and the largest size that its teacher may see."""
    by_table = [image_size.sizes(space, table) for table, _ in targets] if space.pretrained else [[]]
    known = [side for side in by_table[0] if all(side in sides for sides in by_table)]
    if config.image_size:
        return config.image_size, config.image_size
    if not known:
        return space.input_size, space.input_size
    return (image_size.suited(space, *targets[0]) if len(targets) == 1 else known[0]), known[0]


def _several_sizes(config: SearchConfig, space: Space, targets: Targets) -> tuple[int, ...]:
    """The sizes that --image_sizes names, largest first.

    Raises:
        InputError: If they are no sizes, the table has no rows of one, or another setting does not go with them.
    """
    flag = f"--image_sizes={','.join(config.image_sizes)[:80]}"
    sides = {int(text) if text.isdecimal() and len(text) < 5 else 0 for text in config.image_sizes}
    if len(sides) < 2 or not all(0 < side <= image_size.LARGEST for side in sides):
        raise InputError(f"{flag}: expected two or more sizes in pixels, 1 to {image_size.LARGEST}, such as 224,192.")
    if len(targets) > 1 or not targets[0][1]:
        raise InputError(f"{flag} needs one target for all sizes: give --table and --target_ms.")
    against = {"--image_size": config.image_size, "--stages": config.stages != ALL,
               "--latency_loss=none": config.latency_loss == "none", "--warmup_epochs=0": config.warmup_epochs == 0,
               "--strategy=multi_worker": config.strategy == "multi_worker"}
    if others := [other for other, given in against.items() if given]:
        raise InputError(f"{flag} does not go with {others[0]}: leave one of them out.")
    ordered, table = sorted(sides, reverse=True), targets[0][0]
    if unknown := sides - set(image_size.sizes(space, table)):
        raise InputError(f"{flag}: {table.file} has no rows for images of {max(unknown)} x {max(unknown)} pixels. "
                         f"Build a table with --image_size={ordered[0]} "
                         f"--smaller_images={','.join(map(str, ordered[1:]))}.")
    return tuple(ordered)


def _check_size(space: Space, config: SearchConfig, targets: Targets, bounds: Sequence[limits_lib.Bound]) -> None:
    """Raises InputError if a space is too large for this machine, or no network keeps a limit or reaches a target."""
    memory.check_space(space)
    try:
        check_limits(space, bounds)
        for table, target_ms in targets if config.latency_loss != "none" else ():
            if target_ms:
                check_reachable(space, table, target_ms)
    except InputError as error:
        if not config.image_sizes:
            raise
        raise InputError(f"Images of {space.input_size} x {space.input_size} pixels: {error}") from None


def _target(text: str) -> tuple[LatencyTable, float]:
    """Table and milliseconds of TABLE:MS."""
    name, _, value = text.rpartition(":")
    try:
        ms = float(value)
    except ValueError:
        ms = 0.0
    if not name or not 0 < ms < 1e9:
        raise InputError("--targets reads TABLE:MS,TABLE:MS,... with the file or name of a table and milliseconds "
                         f"above 0, got {text[:80]!r}.")
    return latency_table.read(name), ms


def _table(name: str | None, space_name: str) -> LatencyTable:
    if not name:
        raise InputError("Name the latency table of your device: --table=FILE. Make one with "
                         f"python -m latency.build_table --space={space_name} --measurer=host --output=FILE, or use "
                         f"a shipped table: {', '.join(latency_table.names()) or 'none'}.")
    return latency_table.read(name)
