"""Reads published latency tables and turns them into rows of this project's format. Every input is untrusted."""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError, shown
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey

# The files are 25 to 30 kB; YAML is parsed in pure Python, about 1 MB a second.
MAX_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Imported:
    """The contents of a published file.

    Attributes:
        facts: Facts for the header of a table: device, runtime, statistic, license and more.
        rows: Rows as `latency_table.row` makes them.
    """

    facts: dict[str, Any]
    rows: list[dict[str, Any]]


def from_yaml(text: str, sibling: Callable[[str], str]) -> Imported:
    """Reads tables of ProxylessNAS and Once-for-all: means over whole networks that were timed with a profiler.

    Ops of MobileNetV3 (squeeze-and-excite or h-swish) become `ofa_k5_e6_s1_h1`, for which no op is registered. The same
    is true of `avgpool`.

    Args:
        text: Contents of the file.
        sibling: Not used; see `from_tunas`.

    Raises:
        InputError: If an entry has an unknown form.
    """
    rows = []
    for name, entry in _yaml_mapping(text).items():
        key = _yaml_key(name)
        if not isinstance(entry, dict):
            raise InputError(f"{name}: expected count, mean and var or std, got {shown(entry)}.")
        mean_ms = _number(entry.get("mean"), f"mean of {name}")
        spread = {"std_ms": _number(entry["std"], f"std of {name}")} if "std" in entry else (
            {"std_ms": math.sqrt(_number(entry["var"], f"var of {name}"))} if "var" in entry else {})
        count = {"runs": int(_number(entry["count"], f"count of {name}"))} if "count" in entry else {}
        rows.append(latency_table.row(key, median_ms=mean_ms, mean_ms=mean_ms, **spread, **count))
    return Imported({"device": "not named by the file", "runtime": "not named by the file", "batch_size": 1,
                     "license": "not named by the file",
                     "statistic": "median_ms is the mean over the networks an op was seen in, as many as runs says"},
                    rows)


_SHAPE = r"([0-9]{1,5})x([0-9]{1,5})x([0-9]{1,5})"
_CONV = re.compile(rf"(Conv|Conv_1|Conv_2|AvgPool2D)-input:{_SHAPE}-output:{_SHAPE}", re.ASCII)
_LOGITS = re.compile(rf"Logits-input:{_SHAPE}-output:([0-9]{{1,6}})", re.ASCII)
_BLOCK = re.compile(rf"expanded_conv-input:{_SHAPE}-output:{_SHAPE}-expand:([0-9]{{1,5}})-kernel:([0-9]{{1,2}})"
                    r"-stride:([12])-idskip:([01])(?:-se:([01])-hs:([01]))?", re.ASCII)
_CONV_OPS = {"Conv": "conv_k3", "Conv_1": "conv_k1", "Conv_2": "conv_k1", "AvgPool2D": "avgpool"}


def _yaml_key(name: Any) -> OpKey:
    """The key of an entry `expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0`."""
    name = name if isinstance(name, str) else shown(name)
    if match := _CONV.fullmatch(name):
        height, width, channels, out_height, _, filters = map(int, match.groups()[1:])
        # For a pool to 1x1, the quotient is not a stride.
        strides = 1 if match[1] == "AvgPool2D" else -(-height // max(out_height, 1))
        return OpKey(_CONV_OPS[match[1]], (height, width, channels), filters, strides, False)
    if match := _LOGITS.fullmatch(name):
        height, width, channels, classes = map(int, match.groups())
        return OpKey("classifier", (height, width, channels), classes, 1, False)
    match = _BLOCK.fullmatch(name)
    if not match:
        raise InputError(f"Entry {name[:120]!r} is not an op of such a table: expected Conv, Conv_1, Conv_2, "
                         "AvgPool2D, Logits or expanded_conv with input and output shapes.")
    height, width, channels, _, _, filters, expand, kernel, strides, skip = map(int, match.groups()[:10])
    if match[11] is None:  # ProxylessNAS: a ratio
        op = f"mb_k{kernel}_e{expand}"
        ops.parse(op)
    else:  # Once-for-all: a number of channels
        if channels == 0 or expand % channels:
            raise InputError(f"Entry {name[:120]!r}: {expand} channels in the middle are not a multiple of {channels}.")
        plain = match[11] == match[12] == "0"
        op = f"mb_k{kernel}_e{expand // channels}" if plain else (
            f"ofa_k{kernel}_e{expand // channels}_s{match[11]}_h{match[12]}")
    return OpKey(op, (height, width, channels), filters, strides, skip == 1)


def _yaml_mapping(text: str) -> dict[Any, Any]:
    """The document as text, lists and mappings.

    Aliases are refused, because with them a small file can unfold without end.
    """
    import yaml

    class Loader(yaml.BaseLoader):  # reads every scalar as text: parsing SafeLoader's integers can take minutes
        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            return super().compose_node(parent, index)

    try:
        entries = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"Not a YAML file of ops ({' '.join(str(error).split())[:120]}).") from None
    if not isinstance(entries, dict) or not entries:
        raise InputError("Not a YAML file of ops: expected a mapping from ops to count, mean and var or std.")
    return entries


def from_singlepath(text: str, sibling: Callable[[str], str]) -> Imported:
    """Reads the table of Single-Path NAS, {block: {choice: ms}}, for the blocks of the space proxyless_imagenet.

    Each block has times of its own. The four times of block 0 belong to the same computation, so its row is their mean.
    Block 21 is left out, because the file does not say which op its four times belong to.

    Args:
        text: Contents of the file.
        sibling: Not used; see `from_tunas`.

    Raises:
        InputError: If blocks or choices are missing.
    """
    table = _json(text)
    choices = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6")
    if not isinstance(table, dict) or not all(isinstance(table.get(str(block)), dict) for block in range(21)):
        raise InputError("Not a table of Single-Path NAS: expected an object with blocks 0 to 20.")

    def ms(block, choice):
        return _number(table[str(block)].get(str(choice)), f"choice {choice} of block {block}")

    first = [ms(0, choice) for choice in range(4)]
    rows = [latency_table.row(OpKey("mb_k3_e1", (112, 112, 32), 16, 1, False), median_ms=sum(first) / 4, runs=4,
                              choice="b00")]
    side, channels = 112, 16
    for block in range(1, 21):
        stage, cell = divmod(block - 1, 4)
        filters, strides = (24, 40, 80, 96, 192)[stage], 1 if cell else (2, 2, 2, 1, 2)[stage]
        for choice, op in enumerate(choices):
            key = OpKey(op, (side, side, channels), filters, strides, strides == 1 and channels == filters)
            rows.append(latency_table.row(key, median_ms=ms(block, choice), choice=f"b{block:02d}"))
        side, channels = side // strides, filters
    return Imported({"device": "Google Pixel 1", "runtime": "tflite benchmark_model", "threads": 1, "cpu_mask": "8",
                     "batch_size": 1,
                     "license": "Apache-2.0, https://github.com/dstamoulis/single-path-nas",
                     "statistic": "median_ms is the published number, of which nothing more is known"}, rows)


def from_tunas(text: str, sibling: Callable[[str], str]) -> Imported:
    """Reads TuNAS's linear model of whole networks: a weight for each (position, choice), and a bias.

        network_ms = bias + sum(weight[position, choice[position]])

    The weights of a position share an unknown constant with the bias, so only differences have a meaning:

        cost[position, choice] = weight[position, choice] - base[position]
        fixed_ms = bias + sum(base)

    `base` is the weight of `zero`, which then costs 0. At positions without `zero`, an MBConv is taken to cost in
    proportion to its expansion: `base = 2 * weight[k3e3] - weight[k3e6]`. (In the first stage, where `zero` allows a
    comparison, the two values agree to 0.02 ms.) At the first position, `base` is the weight of `k3`. The fixed part is
    the time of all blocks without a choice. It stands in the row of the stem; b00 with kernel 3, mix and classifier
    cost 0. The sum of a network's rows is exactly the prediction of the model.

    Args:
        text: Contents of the CSV file.
        sibling: Reads the file with the same name and another ending; called with `.json` for the bias.

    Raises:
        InputError: If weights or the bias are missing.
    """
    positions, bias = list(_tunas_positions(text)), _json(sibling(".json"))
    fixed_ms = _number(bias.get("bias_ms") if isinstance(bias, dict) else None, "bias_ms", low=-1e6)
    rows = []
    for name, weights, base in positions:
        fixed_ms += base
        for key, weight in weights.items():
            rows.append(latency_table.row(key, median_ms=_number(weight - base, f"{key.op} of {name}"), choice=name))
    note = "in the row of the stem"
    fixed = [latency_table.row(OpKey("conv_k3", (224, 224, 3), 32, 2, False), median_ms=_number(fixed_ms, "fixed part"),
                               note="stem, b00 with kernel 3, mix and classifier together")]
    rest = [latency_table.row(OpKey("conv_k1", (7, 7, 320), 1280, 1, False), median_ms=0.0, note=note),
            latency_table.row(OpKey("classifier", (7, 7, 1280), 1000, 1, False), median_ms=0.0, note=note)]
    return Imported({"device": "Google Pixel 1", "runtime": "not named by the file", "batch_size": 1,
                     "license": "Apache-2.0, Copyright 2021 The Google Research Authors; changed: weights of a linear "
                     "model made into costs of ops", "url": "https://github.com/google-research/google-research/tree/"
                     "master/tunas", "statistic": "median_ms is a difference of weights of a linear model that was "
                     "fitted to whole networks; the fixed parts stand together in the row of the stem"},
                    [*fixed, *rows, *rest])


_TUNAS_COLUMNS = {"position", "in_hw", "in_channels", "out_hw", "out_channels", "stride", "choice", "weight_ms"}


def _tunas_positions(text: str) -> Iterator[tuple[str, dict[OpKey, float], float]]:
    """Yields (block, weight by key, base) of each position, in order; see `from_tunas`."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        lines = [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise InputError(f"Not a table of TuNAS: line {reader.line_num} is not CSV ({error}).") from None
    if not set(reader.fieldnames or ()) >= _TUNAS_COLUMNS:
        raise InputError(f"Not a table of TuNAS: expected the columns {', '.join(sorted(_TUNAS_COLUMNS))}.")
    positions: dict[int, dict[str, tuple[OpKey | None, float]]] = {}
    for number, line in lines:
        where = f"line {number}"
        position, side, channels, filters, strides = (
            int(_number(line[name], f"{where}: {name}", high=99999))
            for name in ("position", "in_hw", "in_channels", "out_channels", "stride"))
        choice, weight_ms = str(line["choice"]), _number(line["weight_ms"], f"{where}: weight_ms", low=-1e6)
        match = re.fullmatch(r"k([0-9]{1,2})(?:e([0-9]{1,2}))?", choice, re.ASCII)
        if not match and choice != ops.ZERO:
            raise InputError(f"{where}: choice {choice[:40]!r} is not one of TuNAS (k3, k3e6, zero).")
        key = None
        if match:  # a depthwise-separable block is an MBConv that does not expand
            op = f"mb_k{match[1]}_e{match[2] or 1}"
            ops.parse(op)
            key = OpKey(op, (side, side, channels), filters, strides, strides == 1 and channels == filters)
        positions.setdefault(position, {})[choice] = (key, weight_ms)
    for position, choices in sorted(positions.items()):
        weight = {choice: value for choice, (_, value) in choices.items()}
        if ops.ZERO in weight:
            base = weight[ops.ZERO]
        elif {"k3e3", "k3e6"} <= set(weight):
            base = 2 * weight["k3e3"] - weight["k3e6"]
        elif "k3" in weight:
            base = weight["k3"]
        else:
            raise InputError(f"Position {position} has neither zero, nor k3e3 and k3e6, nor k3.")
        yield f"b{position:02d}", {key: value for key, value in choices.values() if key}, base


def _json(text: str) -> Any:
    """Parsed JSON; raises InputError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("Not valid JSON; the file may be cut off. Fetch it again.") from None


def _number(value: Any, what: str, low: float = 0.0, high: float = 1e6) -> float:
    """A finite number in a range, from a number or its text; raises InputError, which calls it `what`."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise InputError(f"{what} must be a number from {low:g} to {high:g}, got {shown(value)}.")
    return number


FORMATS: dict[str, Callable[[str, Callable[[str], str]], Imported]] = {
    "proxylessnas_yaml": from_yaml, "ofa_yaml": from_yaml, "tunas": from_tunas, "singlepath_json": from_singlepath}
