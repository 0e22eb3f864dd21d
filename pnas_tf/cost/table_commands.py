"""Commands for the user to paste that measure latency tables, with the settings that a table was made by."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pnas_tf import shell
from pnas_tf.space.blocks import Space

# Settings of `latency.build_table` that decide what a row means, each with the value that needs no flag.
DEFAULTS = {"measurer": "host", "runtime": "litert", "delegate": "xnnpack", "dtype": "float32", "threads": 1,
            "batch_size": 1, "accelerator": "ethos-u55-128", "vela_config": "Arm/vela.ini", "system_config": "",
            "memory_mode": "Shared_Sram", "clock_mhz": 0.0, "arena_kib": 0.0, "library_path": ""}
# Flags of a search for known images, by their height, channels and classes. The first ones need none.
DATASETS: dict[tuple[int, int, int], list[str]] = {(28, 1, 10): [], (32, 3, 10): ["--dataset=cifar10"]}
# What a header may say that every command needs, such as the board's address: a flag with a word in capitals in place
# of its value.
NEEDS = re.compile(r"--[a-z_]{1,40}=[A-Z@]{1,40}")


def space_flags(space: Space, named_by: Sequence[str] = ()) -> list[str]:
    """Flags that name a space fitted to data, for the commands of `latency`.

    Args:
        space: Space at the size of the images, with their channels and classes.
        named_by: Flags by which the running command got the space, such as --space=my.json and --width_mult=0.5.
            Without them, the space has its own name and widths.
    """
    return [*(named_by or [f"--space={space.name}"]), f"--image_size={space.input_size}",
            f"--image_channels={space.input_channels}", f"--num_classes={space.num_classes}"]


def named_by(space: str, width_mult: float = 1.0) -> list[str]:
    """The first flags of `space_flags`, from the values of --space and --width_mult."""
    return [f"--space={space}", *([f"--width_mult={width_mult:g}"] if width_mult != 1 else [])]


def images(space: Space) -> tuple[list[str], list[str]]:
    """The flag of a search that names images which a space fits, and sentences about what it leaves open.

    Args:
        space: Space at the size of the images, with their channels and classes.
    """
    shape = (space.input_size, space.input_channels, space.num_classes)
    if shape in DATASETS:
        return DATASETS[shape], []
    named, what = ("folder:IMAGES", "folder") if space.input_channels == 3 else ("npz:IMAGES.npz", "file")
    return [f"--dataset={named}"], [f"{named.partition(':')[2]} is the {what} of your images, with "
                                    f"{space.num_classes} classes."]


def build(header: Mapping[str, Any], flags: Sequence[str], output: str) -> str:
    """The command that adds rows to a table, or builds it again.

    Args:
        header: Line 1 of the table.
        flags: Flags that name the space, and more.
        output: Path of the table.
    """
    return shell.line(["python", "-m", "latency.build_table", *flags, *_settings(header), f"--output={output}"])


def compare(table: str, flags: Sequence[str]) -> str:
    """The command that compares a table with whole networks.

    Args:
        table: Path of the table.
        flags: Flags that name the space, and more.
    """
    return shell.line(["python", "-m", "latency.compare", f"--table={table}", *flags])


def another(table: str) -> str:
    """A path beside a table at which there is no file: what is measured again must not mix with what is there.

    Args:
        table: Path of the table.
    """
    return _unused(table.removesuffix(".jsonl"), ".jsonl", first=2)


def run_dir(table: str) -> str:
    """A folder beside a table that does not exist yet, for the results of a search.

    Args:
        table: Path of the table.
    """
    return _unused(f"{table.removesuffix('.jsonl')}_search", "", first=1)


def _unused(stem: str, ending: str, first: int) -> str:
    """The first path that does not exist of `stem` with a number; the number 1 is left out."""
    paths = (f"{stem}{f'_{number}' if number > 1 else ''}{ending}" for number in itertools.count(first))
    return next(path for path in paths if not os.path.lexists(path))


def _settings(header: Mapping[str, Any]) -> list[str]:
    measurer = header.get("measurer", DEFAULTS["measurer"])
    if measurer == "import":  # a table of one's own, of any kind
        return []
    # The runtime of a phone is its program, XLA is its own runtime and delegate, and Vela compiles int8 only.
    fixed = {"android": ("runtime", "batch_size"), "xla": ("runtime", "delegate", "dtype"),
             "vela": ("runtime", "dtype", "batch_size")}.get(str(measurer), ())
    values = {name: header[name] for name in DEFAULTS if name in header and name not in fixed}
    if isinstance(values.get("runtime"), str):  # `litert 2.3.0`
        values["runtime"] = values["runtime"].partition(" ")[0]
    flags = [f"--{name}={str(value)[:200]}" for name, value in values.items() if value != DEFAULTS[name]]
    if isinstance(header.get("cpu_mask"), str):
        flags.append(f"--cpu_mask={header['cpu_mask'][:40]}")
    needs = header.get("needs", "--benchmark_binary=PATH" if measurer == "android" else None)  # older tables lack it
    if NEEDS.fullmatch(str(needs)):
        flags.append(needs)
    return flags
