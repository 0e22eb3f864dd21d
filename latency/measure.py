"""The interface between tables and devices: the models that are timed, and the measurers that time them.

To add a measurer, write a class with the methods of `Measurer` and a dataclass of its settings, and enter the class in
`MEASURERS`; docs/your_measurer.md has an example. Flags are made from the settings, and a table's header records them.
A setting whose default is None or an empty tuple (the path of a tool, a serial number, the address of a board)
describes the way to the target and not the target. It is never taken from a header, but from an environment variable
where a command has no flag for it: PNAS_TF_HOST for `host`.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from export import convert
from latency.host import Host
from latency.phones.android import Android
from latency.ssh import Ssh
from latency.vela import Vela
from latency.xla import Xla
from pnas_tf import terminal
from pnas_tf.cost import network_times
from pnas_tf.errors import InputError, shown
from pnas_tf.space.arch import Arch, from_chosen
from pnas_tf.space.blocks import OpKey, Space

# Function that makes the Keras model to time. Models are made one after the other, so that few exist at a time.
Build = Callable[[], Any]

# The smallest op: its time is the overhead of a call.
OVERHEAD_KEY = OpKey("conv_k1", (1, 1, 8), 8, 1, False)

# Facts that must be equal for two measurements to share a table or to be compared. None stands for a fact that a
# measurer does not have.
SAME_TARGET = ("measurer", "device", "soc", "android", "abi", "runtime", "binary_sha256", "delegate", "threads",
               "cpu_mask", "governor", "dtype", "batch_size", "context", "statistic")


class Measurer(Protocol):
    """Times models on one target. The first line of the class's docstring explains the measurer in --help.

    Attributes:
        Settings: Frozen dataclass whose fields come from `pnas_tf.cli.settings.setting` and all have defaults.
    """

    Settings: ClassVar[type[Any]]

    def __init__(self, settings: Any):
        """Takes a value of `Settings`; raises InputError if models cannot be timed with these settings."""

    def facts(self) -> dict[str, Any]:
        """Facts for a table's header.

        Returns:
            target: Default name of the target.
            measurer: Key of `MEASURERS`.
            rounds: Number of visits of each model.
            overhead_ms: Overhead of a call where it is known; without it, it is measured.
            needs: Flag that every command needs, as a user would type it with a word in capitals for its value; None
                or missing if there is none.
            And the rest of `SAME_TARGET`, all settings that describe the target, and any further facts.
        """
        ...

    def measure(self, builds: Mapping[Any, Build], between: Build | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Times models.

        Args:
            builds: Functions that make the models, by the names that messages use. The batch size of the models is
                dynamic or equal to that of the measurer.
            between: Function that makes a model to run before each timed run, so that caches are as they are inside a
                network. A measurer that cannot do so uses the model in another way or ignores it, and its facts say
                so (`context`).
            visited: Function that is called after each visit of a model, as many times for each model as the facts
                have `rounds`.

        Yields:
            (name in `builds`, measurement) as soon as a measurement is complete, in any order. A measurement has
            median_ms, min_ms, mean_ms, std_ms, runs, and any further facts for a table's row. If the measurer times
            `between` as an anchor, its facts say so (`anchor`), and a measurement has time_s and anchors, by which
            `latency.anchors` divides it by the device's pace.

        Raises:
            InputError: At the end, if models could not be timed; the others have been yielded.
        """
        ...


MEASURERS: dict[str, type[Measurer]] = {
    "host": Host,
    "xla": Xla,
    "android": Android,
    "ssh": Ssh,
    "vela": Vela,
}


def measurer_of(name: str, **settings: Any) -> Measurer:
    """A measurer by name.

    Args:
        name: Key of `MEASURERS`.
        **settings: Fields of the measurer's settings that differ from their defaults. For the way to the target,
            environment variables such as PNAS_TF_HOST (`host`) give the others.

    Raises:
        InputError: If models cannot be timed with these settings.
    """
    kind = MEASURERS[name].Settings
    for field in dataclasses.fields(kind):
        if text := _is_way(field) and os.environ.get(f"PNAS_TF_{field.name.upper()}"):
            settings.setdefault(field.name, text if field.default is None else tuple(text.split(",")))
    return MEASURERS[name](kind(**settings))


def _is_way(field: dataclasses.Field) -> bool:
    """Whether a setting describes the way to the target and not the target."""
    return field.default is None or field.default == ()


def from_header(header: Mapping[str, Any], path: str) -> Measurer:
    """The measurer that made a table, ready to measure more on the same target.

    Args:
        header: Line 1 of the table.
        path: Path of the table, for messages.

    Raises:
        InputError: If the measurer is unknown, or this machine has another device or runtime.
    """
    name = header.get("measurer")
    if not isinstance(name, str) or name not in MEASURERS:
        raise InputError(f"{path}: its target {header['target'][:80]!r} cannot be timed here: expected a table made by "
                         f"latency.build_table with --measurer={'|'.join(MEASURERS)}, got measurer {shown(name)}.")
    settings = {field.name: _checked(header[field.name], field.default, f"{path}: {field.name} in line 1")
                for field in dataclasses.fields(MEASURERS[name].Settings)
                if field.name in header and not _is_way(field)}
    if "runtime" in settings:  # `litert 2.3.0`: the setting is the name alone
        settings["runtime"] = settings["runtime"].partition(" ")[0]
    try:
        measurer = measurer_of(name, **settings)
        facts = measurer.facts()
    except InputError as error:
        raise InputError(f"{path}: its target {header['target'][:80]!r} cannot be timed here: {error}") from None
    check_same(header, facts, path)
    return measurer


def _checked(value, default, where):
    """A setting from a header. The header comes from a file, so the value may be anything."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, int) and not (number and isinstance(value, int) and 1 <= value <= 65536):
        raise InputError(f"{where} must be a whole number above 0, got {shown(value)}.")
    if isinstance(default, float) and not (number and 0 <= value <= 1e6):
        raise InputError(f"{where} must be a number of at least 0, got {shown(value)}.")
    if isinstance(default, str) and not (isinstance(value, str) and len(value) <= 200):
        raise InputError(f"{where} must be a short text, got {shown(value)}.")
    return value


def check_same(header: Mapping[str, Any], facts: Mapping[str, Any], path: str) -> None:
    """Raises InputError, which shows the differences, if a file's measurements and the facts are of different targets.

    Args:
        header: Line 1 of a file of measurements.
        facts: Facts of a measurer on this machine.
        path: Path of the file, for messages.
    """
    different = [f"{name} {shown(header.get(name))} there, {facts.get(name)!r} here" for name in SAME_TARGET
                 if header.get(name) != facts.get(name)]
    if different:
        raise InputError(f"{path} holds measurements of another target: {'; '.join(different)}. "
                         "Give the same settings, or build another table by --output.")


def with_progress(device: Measurer, builds: Mapping[Any, Build], between: Build | None = None, *, what: str
                  ) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Times models with a bar that counts visits: most models are finished only near the end.

    Args:
        device: Measurer.
        builds: Functions that make the models, by name.
        between: As for `Measurer.measure`.
        what: Name of the models, in front of the bar.
    """
    with terminal.bar(len(builds) * device.facts()["rounds"], what) as bar:
        yield from device.measure(builds, between, bar.update)


def op_build(key: OpKey) -> Build:
    """A function that makes a model of one op alone, as a table row times it."""
    return functools.partial(_randomised_op, key)


@dataclasses.dataclass(frozen=True)
class _NetworkBuild:
    """A function that makes a network; those of networks with the same digest are equal."""

    digest: str
    arch: Arch = dataclasses.field(compare=False)

    def __call__(self) -> Any:
        from pnas_tf import network

        return convert.randomise(network.build_network(self.arch))


def network_build(arch: Arch) -> Build:
    """A function that makes a model of a whole network; equal for networks of equal times."""
    return _NetworkBuild(network_times.digest(arch), arch)


def context_build(space: Space) -> Build:
    """A function that makes the network to run before each timed run of an op: a random network, the same every time.

    Inside a network, the other ops push the weights and tables of an op out of the near caches. This does not happen if
    an op is timed alone many times in a row: the sums of such rows were 9 % below the times of ImageNet networks (on a
    server CPU, in float32 and int8). With a run of a network of the space before each timed run, the sums came within 1
    to 4 %. With a network of small kernels instead, int8 sums were still 5 % too low. For networks that fit in the
    caches, it makes no difference.
    """
    return network_build(context(space))


def context(space: Space) -> Arch:
    """The network of `context_build`."""
    return random_archs(space, 1)[0]


def random_archs(space: Space, count: int, seed: int = 0) -> list[Arch]:
    """Random networks: every op of a choice is equally likely, and all filters are.

    Args:
        space: Space of the networks.
        count: Number of networks; some may be equal.
        seed: Seed of the random ops.
    """
    rng = np.random.default_rng(seed)
    return [from_chosen(space, {name: str(rng.choice(choice.ops)) for name, choice in space.choices.items()})
            for _ in range(count)]


def _randomised_op(key):
    from pnas_tf import network

    return convert.randomise(network.build_op(key))
