"""The seam between tables and devices: what is timed, and the ways of timing it.

To add a way of measuring, write one class with the two methods of `Measurer` and enter it in `MEASURERS`. Its settings
are the keyword arguments of the class: flags of the same names set them, and the table's header records them. One whose
default is None (the path of a tool, a serial number) is of the place and not of the target: never taken from a header.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from latency.host import Host
from latency.phones.android import Android
from latency.xla import Xla
from pnas_tf.errors import InputError, shown
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space

# Makes the Keras model to be timed. A call, not a model, so that only few of many models exist at a time.
Build = Callable[[], Any]

# The smallest op there is: what it takes is the price of a call.
OVERHEAD_KEY = OpKey("conv_k1", (1, 1, 8), 8, 1, False)

# What decides whether two measurements may stand in one table, or be compared. What a measurer does not have is None.
SAME_TARGET = ("measurer", "device", "soc", "android", "runtime", "binary_sha256", "delegate", "threads", "cpu_mask",
               "governor", "dtype", "batch_size", "context", "statistic")


class Measurer(Protocol):
    """Times models on one target. Constructed from keyword arguments that all have defaults: its settings."""

    def facts(self) -> dict[str, Any]:
        """What a table's header says: target (a default name), the rest of `SAME_TARGET`, the settings, ..."""
        ...

    def measure(self, builds: Mapping[Any, Build], between: Build | None = None
                ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Times models.

        Args:
            builds: of the models, which have a dynamic batch or the measurer's, by what messages shall call them.
            between: of a model to run before each timed run, so that caches are as they are inside a network; a
                measurer that cannot do so uses it otherwise or leaves it out, and its facts say so (`context`).

        Yields:
            (name in `builds`, measurement) as soon as there is one, in any order. A measurement is median_ms, min_ms,
            mean_ms, std_ms, runs, and what else a table's row shall say.

        Raises:
            InputError: at the end, if models could not be timed; the others have been yielded.
        """
        ...


MEASURERS: dict[str, Callable[..., Measurer]] = {"host": Host, "xla": Xla, "android": Android}


def from_header(header: Mapping[str, Any], path: str) -> Measurer:
    """The measurer that made a table, ready to measure more on the same target.

    Raises:
        InputError: if that cannot be done here: an unknown measurer, or another device or runtime.
    """
    name = header.get("measurer")
    if not isinstance(name, str) or name not in MEASURERS:
        raise InputError(f"{path}: its target {header['target'][:80]!r} cannot be timed here: expected a table made by "
                         f"latency.build_table with --measurer={'|'.join(MEASURERS)}, got measurer {shown(name)}.")
    settings = {setting: _checked(header[setting], default, f"{path}: {setting} in line 1")
                for setting, default in settings_of(name).items() if setting in header and default is not None}
    try:
        measurer = MEASURERS[name](**settings)
        facts = measurer.facts()
    except InputError as error:
        raise InputError(f"{path}: its target {header['target'][:80]!r} cannot be timed here: {error}") from None
    check_same(header, facts, path)
    return measurer


def settings_of(name: str) -> dict[str, Any]:
    """What can be set for a measurer: default by name."""
    return {setting: parameter.default for setting, parameter in inspect.signature(MEASURERS[name]).parameters.items()}


def _checked(value, default, where):
    """A setting from a header, of which nothing is known but that it stood in a file."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, int) and not (number and isinstance(value, int) and 1 <= value <= 65536):
        raise InputError(f"{where} must be a whole number above 0, got {shown(value)}.")
    if isinstance(default, float) and not (number and 0 <= value <= 1e6):
        raise InputError(f"{where} must be a number of at least 0, got {shown(value)}.")
    if isinstance(default, str) and not (isinstance(value, str) and len(value) <= 200):
        raise InputError(f"{where} must be a short text, got {shown(value)}.")
    return value


def check_same(header: Mapping[str, Any], facts: Mapping[str, Any], path: str) -> None:
    """Raises InputError that shows the differences, if a table is of another target than the facts."""
    different = [f"{name} {shown(header.get(name))} there, {facts.get(name)!r} here" for name in SAME_TARGET
                 if header.get(name) != facts.get(name)]
    if different:
        raise InputError(f"{path} holds measurements of another target: {'; '.join(different)}. "
                         "Give the same settings, or build another table by --output.")


def op_build(key: OpKey) -> Build:
    """Of one op alone, as a table row times it."""
    return functools.partial(_randomised_op, key)


def network_build(arch: Arch) -> Build:
    """Of a whole network."""
    return functools.partial(_randomised_network, arch)


def context_build(space: Space) -> Build:
    """Of a network that stands for the rest of a network while one op is timed: a random one, always the same.

    In a network, an op finds its weights and tables pushed out of the near caches by all the others. Timed over and
    over on its own it does not, and the sum of such rows fell 9 % short of networks for ImageNet (on a server CPU, in
    float32 and int8); with a run of such a network in between it came within 1 to 4 %. A network of small kernels in
    between still left int8 5 % short. Networks that fit in the caches do not mind.
    """
    return network_build(random_archs(space, 1)[0])


def random_archs(space: Space, count: int, seed: int = 0) -> list[Arch]:
    """Networks drawn at random: every op of a choice is equally likely."""
    rng = np.random.default_rng(seed)
    return [Arch(space, {name: str(rng.choice(block.ops)) for name, block in space.choices.items()})
            for _ in range(count)]


def _randomised_op(key):
    from pnas_tf import network

    return randomise(network.build_op(key))


def _randomised_network(arch):
    from pnas_tf import network

    return randomise(network.build_network(arch))


def randomise(model: Any, seed: int = 0) -> Any:
    """Gives a model random weights and returns it: a fresh one has zeros, which a converter may fold away."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.standard_normal(variable.shape, np.float32) * 0.1
        # Scales and variances: positive, and far from 0.
        variable.assign(np.abs(values) + 0.5 if variable.path.endswith(("gamma", "moving_variance")) else values)
    return model


def load_space(name: str, *, width_mult: float = 1.0, image_size: int = 0, image_channels: int = 0,
               num_classes: int = 0) -> Space:
    """A space fitted to the user's images.

    Args:
        name: of a known space, or the path of a JSON file.
        width_mult: multiplies all widths.
        image_size: height and width of the images; 0 for the space's own, as the next two.
        image_channels: of the images.
        num_classes: of the classifier.

    Raises:
        InputError: if there is no such space.
    """
    from pnas_tf.space import spaces

    space = spaces.load(name).scaled(width_mult)
    return space.for_data(image_size or space.input_size, image_channels or space.input_channels,
                          num_classes or space.num_classes)
