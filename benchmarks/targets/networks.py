"""Writes docs/networks.md: every shipped network with its size, published accuracy, and milliseconds.

    python -m benchmarks.targets.networks                                       # with the times measured so far
    python -m benchmarks.targets.networks --measure=float32 --measure=int8      # times all networks first

Times of whole networks are kept in networks_float32.jsonl and networks_int8.jsonl beside this file. Measure on an
otherwise idle machine: networks are visited in turns.
"""

import os
import textwrap
from collections.abc import Sequence

from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, network_times
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import shape_layers
from pnas_tf.space.arch import Arch

HERE = os.path.dirname(__file__)
PAGE = os.path.join(HERE, "..", "..", "docs", "networks.md")
MODES = ("float32", "int8")
WIDTH = 97

# Where the accuracies come from. A text in this tuple is a source of the page, in this order.
SOURCES = (
    "Cai, Zhu, Han: ProxylessNAS, ICLR 2019, and the README of the authors' code, github.com/mit-han-lab/proxylessnas.",
    "Sandler et al.: MobileNetV2, CVPR 2018, table 4.",
    "README of EfficientNet-Lite, github.com/tensorflow/tpu, models/official/efficientnet/lite, float32.",
    "torchvision's weights of mnasnet1_0 (MnasNet-B1; Tan et al., CVPR 2019).",
    "Qin et al.: MobileNetV4, ECCV 2024, arXiv 2404.10518, table 5.")
# Published top-1 on ImageNet in percent, and the number of its source.
PUBLISHED = {
    "proxyless_mobile": ("74.6", 1), "proxyless_mobile_14": ("76.7", 1), "proxyless_cpu": ("75.3", 1),
    "proxyless_gpu": ("75.1", 1), "proxyless_cifar": ("97.92", 1), "mobilenet_v2": ("72.0", 2),
    "efficientnet_lite0": ("75.1", 3), "efficientnet_lite1": ("76.7", 3), "efficientnet_lite2": ("77.6", 3),
    "efficientnet_lite3": ("79.8", 3), "efficientnet_lite4": ("81.5", 3), "mnasnet_b1": ("73.46", 4),
    "mobilenet_v4_conv_small": ("73.8", 5), "mobilenet_v4_conv_medium": ("79.9", 5)}

INTRODUCTION = """\
# Networks in the package

`build_network("NAME")` builds a network, and `python -m pnas_tf.train --arch=NAME` trains it.
`python -m benchmarks.targets.networks` writes this page.

## Sizes and published accuracies

Parameters and MACs are counted at the network's own image size, without the moving statistics of
batch norm, and without the MACs of biases, batch norm and pooling. Accuracies were published by
the sources below, for their own trainings; none was measured here. Only `efficientnet_lite0` has
its weights in this package ([weights.md](weights.md)). `proxyless_cifar` is for CIFAR-10 and has
its accuracy there, all others for ImageNet.

"""
NOTES = """
MobileNetV4's paper gives 9.2M parameters for Conv-M; its authors' code and timm have 9.7M. Layer
by layer, the two networks and `mnasnet_b1` have the shapes of those in timm 1.0.31
(`tests/space/test_mobile_networks.py`).

Not in the package: MobileNetV3, whose expansions are not whole numbers (200 / 80) and whose
squeeze has other widths than that of `mbse`; MnasNet-A1, which squeezes to a quarter of a block's
input channels, not of its expanded channels.

## Milliseconds

    python -m benchmarks.targets.networks --measure=float32 --measure=int8

Columns with the name of a shipped table predict: they are sums of its rows, where it has all of
them.
"""


def page() -> str:
    """The page, with the times measured so far."""
    archs = sorted(map(arch_lib.load, arch_lib.names()), key=lambda arch: sizes(arch)[1])
    return "\n".join([INTRODUCTION + table_of_sizes(archs), *sources(), NOTES, measured_on(), "", table_of_times(archs),
                      ""])


def table_of_sizes(archs: Sequence[Arch]) -> str:
    """Parameters, MACs and published accuracy of each network."""
    lines = ["| network | pixels | parameters | MACs | top-1, published | source |", "|" + " --- |" * 6]
    for arch in archs:
        (params, macs), (accuracy, source) = sizes(arch), PUBLISHED[arch.space.name]
        lines.append(f"| `{arch.space.name}` | {arch.space.input_size} | {params:,} | {macs:,} | {accuracy} % "
                     f"| {source} |")
    return "\n".join(lines) + "\n"


def sources() -> list[str]:
    """The sources as lines of a numbered list."""
    return [textwrap.fill(f"{number}. {source}", WIDTH, subsequent_indent="   ", break_on_hyphens=False)
            for number, source in enumerate(SOURCES, start=1)]


def table_of_times(archs: Sequence[Arch]) -> str:
    """Predicted and measured milliseconds of each network."""
    tables = [latency_table.read(name) for name in latency_table.names()]
    measured = [times(mode)[1] for mode in MODES]
    columns = [*(table.target for table in tables), *(f"measured {mode}" for mode in MODES)]
    lines = [f"| network | {' | '.join(columns)} |", "|" + " --- |" * (1 + len(columns))]
    for arch in archs:
        predicted = [predicted_ms(table, arch) for table in tables]
        timed = [each.get(network_times.digest(arch)) for each in measured]
        cells = [f"{ms:.2f}" if ms else "-" for ms in predicted] + [f"{ms:.2f}" if ms else "not yet" for ms in timed]
        lines.append(f"| `{arch.space.name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def sizes(arch: Arch) -> tuple[int, int]:
    """Parameters and MACs of a network of ops that ship."""
    counts = [count for _, key in arch.op_keys() if (count := shape_layers.count(key))]
    return sum(count.params for count in counts), sum(count.macs for count in counts)


def predicted_ms(table: latency_table.LatencyTable, arch: Arch) -> float | None:
    """Sum of a network's rows; None if the table lacks one of them."""
    return None if table.missing(arch) else sum(table.ms(block.name, key) for block, key in arch.op_keys())


def path_of(mode: str) -> str:
    """File that keeps the times of a mode."""
    return os.path.join(HERE, f"networks_{mode}.jsonl")


def times(mode: str) -> tuple[dict[str, object], dict[str, float]]:
    """Header of the file of a mode, and milliseconds by digest of the network; both empty without the file."""
    if not os.path.exists(path_of(mode)):
        return {}, {}
    header, rows = network_times.read(path_of(mode))
    return header, {name: ms for name, _, ms, _ in rows}


def measured_on() -> str:
    """A paragraph about the machine, the runtime and the date of the measured times."""
    facts = [f"{mode} on {header['cores']} cores of {header['device']}, {header['runtime']}, {header['date']}"
             for mode in MODES if (header := times(mode)[0])]
    return textwrap.fill("Measured: whole networks as `.tflite` files with random weights, XNNPACK, one thread: "
                         f"{'; '.join(facts) or 'not yet'}.", WIDTH, break_on_hyphens=False)


def run(measure: Sequence[str] = ()) -> None:
    """Writes the page.

    Args:
        measure: Modes in which all networks are timed first, of `MODES`.
    """
    for mode in measure:
        from latency import measure as measure_lib
        from latency import timed_networks

        timed_networks.in_one_pass(path_of(mode), measure_lib.measurer_of("host", dtype=mode),
                                   [arch_lib.load(name) for name in arch_lib.names()])
    files.write_text(PAGE, page())
    print(f"Wrote {os.path.relpath(PAGE)}")


def _main() -> None:
    run(flags.FLAGS.measure)


def main() -> None:
    """Entry point."""
    flags.DEFINE_multi_enum("measure", [], MODES, "Mode in which all networks are timed first; may be repeated.")
    start.start(_main)


if __name__ == "__main__":
    main()
