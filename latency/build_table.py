"""Builds the latency table of a search space: times each of its unique ops on a target.

    python -m latency.build_table --space=quickstart --output=runs/host.jsonl
    python -m latency.build_table --space=proxyless_imagenet --dtype=int8 --output=tables/host_int8.jsonl
    python -m latency.build_table --space=quickstart --measurer=android --benchmark_binary=PATH --output=phone.jsonl
    python -m latency.build_table --space=quickstart --measurer=ssh --host=pi@board --output=board.jsonl

To continue a stopped measurement, run the same command again: rows in the file are not measured twice.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from export import agreement
from latency import anchors, measure, measurer_flags, space_flags
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.space import memory, ops
from pnas_tf.space.blocks import OpKey, Space

# Smallest time of a row: a tenth of a microsecond, which is finer than a call can be timed.
LEAST_MS = 1e-4


def run(*, space: Space, output: str, measurer: str = "host", settings: dict[str, Any] | None = None,
        only: Sequence[str] = (), target_name: str | None = None) -> LatencyTable:
    """Measures the rows that a table lacks.

    Args:
        space: Space whose candidate ops are timed.
        output: Path of the table. A missing file is made; an existing table receives the rows that it lacks.
        measurer: Key of `measure.MEASURERS`.
        settings: Fields of the measurer's settings that differ from their defaults.
        only: Op texts that restrict the rows; empty for all ops.
        target_name: Name of the target in place of the measurer's own name for it.

    Returns:
        The whole table, from the file.

    Raises:
        InputError: If the file is not a table, or holds measurements of another target.
    """
    keys = _keys(space, only)
    device = measure.measurer_of(measurer, **(settings or {}))
    facts = device.facts()
    if not os.path.exists(output):
        head = latency_table.header(**{**facts, "target": target_name or facts["target"]})
        files.create(output, (json.dumps(head) + "\n").encode())
    with latency_table.open_to_add(output) as add:  # before the table is read: another program may be adding to it
        table = latency_table.read(output)
        measure.check_same(table.header, facts, output)
        if target_name and target_name != table.target:
            raise InputError(f"{output} holds the target {table.target[:80]!r}, not {target_name!r}. "
                             "Leave out --target_name, or build another table by --output.")
        if missing := [key for key in keys if key not in table.rows]:
            _add_rows(add, device, missing, space)
    _divide_by_pace(latency_table.read(output))
    return latency_table.read(output)


def kinds() -> measurer_flags.Kinds:
    """Flags of the measurers: all their settings except `together`, which matters only for comparisons of networks."""
    return {name: (measurer.Settings, [field.name for field in dataclasses.fields(measurer.Settings)
                                       if field.name != "together"])
            for name, measurer in measure.MEASURERS.items()}


def _divide_by_pace(table: LatencyTable) -> None:
    """Adds paced_ms to the rows of a table, and how far the pace wandered to its header, if new rows have anchors."""
    if anchors.are_new(table.rows.values()):
        paced = anchors.paced(table.rows, anchors.references_of(table.header), table.path)
        latency_table.annotate(table.path, rows=paced.rows, header={"pace": paced.wandered})


def _add_rows(add: Callable[[dict[str, Any]], None], device: measure.Measurer, keys: Sequence[OpKey],
              space: Space) -> None:
    """Measures rows and adds each to a table.

    The overhead of a call, unless the measurer knows it, is measured between networks of this space: it is 0.5 us among
    small networks and 7 us among ImageNet networks.
    """
    between = measure.context_build(space)
    overhead_ms = device.facts().get("overhead_ms")
    if overhead_ms is None:
        overhead = {"the overhead of a call": measure.op_build(measure.OVERHEAD_KEY)}
        ((_, overhead_times),) = device.measure(overhead, between)
        overhead_ms = overhead_times["median_ms"]
    builds = {key: measure.op_build(key) for key in keys}
    for key, times in measure.with_progress(device, builds, between, what=f"{len(keys)} ops"):
        # Every network has one classifier. Only its row keeps the overhead of a call, so the sum of a network's rows
        # contains that overhead once, too.
        subtracted_ms = 0.0 if ops.is_classifier(key.op) else overhead_ms
        add(latency_table.row(key, **less_overhead(anchors.named(times, space), subtracted_ms),
                              overhead_ms=subtracted_ms))


def less_overhead(times: dict[str, float], overhead_ms: float) -> dict[str, float]:
    """Times that an op adds to a network, which is called once and not once for each op.

    Args:
        times: Measurement of an op called alone: median_ms, min_ms, mean_ms and more.
        overhead_ms: Overhead of a call in milliseconds.

    Returns:
        The measurement with each time replaced by max(time - overhead_ms, LEAST_MS).
    """
    return {name: max(value - overhead_ms, LEAST_MS) if name in latency_table.TIMES else value
            for name, value in times.items()}


def _keys(space: Space, only: Sequence[str]) -> list[OpKey]:
    """Keys of the unique ops of a space, in order; raises InputError if the space has none of the named ops."""
    for op in only:
        ops.parse(op)
    keys = list(dict.fromkeys(key for _, key in space.op_keys() if not only or key.op in only))
    if not keys:
        raise InputError(f"Space {space.name} has no op {', '.join(only)}. Its ops: "
                         f"{', '.join(sorted({key.op for _, key in space.op_keys()}))}.")
    return keys


def _define_flags() -> None:
    space_flags.define()
    flags.DEFINE_enum("measurer", "host", list(measure.MEASURERS),
                      "; ".join(f"{name}: {(measurer.__doc__ or '').partition(chr(10))[0].rstrip('.')}"
                                for name, measurer in measure.MEASURERS.items()) + ".")
    measurer_flags.define(kinds())
    flags.DEFINE_list("only", [], "Ops that restrict the table, with commas between: mb_k3_e3,mb_k5_e6.")
    flags.DEFINE_list("smaller_images", [], "Further sizes of the images, smaller ones: 80,64,48. A search around a "
                      "pretrained network takes the size that suits its target; any search can try several by "
                      "--image_sizes.")
    flags.DEFINE_string("target_name", None, "Name of the target; default: host_xnnpack1_float32 and the like.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _main() -> None:
    f = flags.FLAGS
    if not f.output:
        raise InputError("Name the file of the table: --output=TABLE.jsonl.")
    space = space_flags.space_of(f)
    settings, sides = measurer_flags.given(f.measurer, kinds()), [space.input_size, *_sizes(f.smaller_images, space)]
    memory.check_ops(space, _keys(space, f.only))
    memory.check_network(measure.context(space))
    start.load_tensorflow()
    for side in sides:
        table = run(space=dataclasses.replace(space, input_size=side), output=f.output, measurer=f.measurer,
                    only=f.only, target_name=f.target_name, settings=settings)
    print(f"\nTarget: {table.target} ({table.header['device']}, {table.header['runtime']})\n"
          f"{''.join(f'Pace:   {text}{chr(10)}' for text in anchors.words(table.header))}"
          f"Rows:   {len(table.rows)}\nTable:  {f.output}\n"
          f"Next:   {_next(f, space)}")


def _sizes(texts: Sequence[str], space: Space) -> list[int]:
    """Smaller sizes of a space's images, given as texts."""
    sizes = [int(text) if text.isdecimal() and len(text) < 5 else 0 for text in texts]
    if not all(0 < size < space.input_size for size in sizes):
        raise InputError(f"--smaller_images reads numbers of pixels below --image_size ({space.input_size}) with "
                         f"commas between, got {','.join(texts)[:80]!r}.")
    return sizes


def _next(f: flags.FlagValues, space: Space) -> str:
    """A search that can use the table: the same space and the same kind of images; and what the command leaves open."""
    names = ["space", "width_mult", *([] if f.smaller_images else ["image_size"])]
    arguments = [f"--{name}={f[name].value}" for name in names if name == "space" or f[name].present]
    several = bool(f.smaller_images) and not space.pretrained
    if several:
        arguments += [f"--image_sizes={','.join(map(str, (space.input_size, *f.smaller_images)))}", "--target_ms=MS"]
    dataset, words = table_commands.images(space)
    command = start.next_command("pnas_tf.search", *arguments, *dataset, f"--table={f.output}",
                                 f"--run_dir={table_commands.run_dir(f.output)}")
    return "\n        ".join([command, *words, *(["MS is the largest number of milliseconds."] if several else [])])


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main, agreement.check_ops_ship)


if __name__ == "__main__":
    main()
