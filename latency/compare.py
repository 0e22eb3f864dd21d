"""Compares what a table predicts for whole networks with what they take on the same target.

    python -m latency.compare --table=runs/host.jsonl --space=quickstart --networks=20
    python -m latency.compare --table=runs/host.jsonl --arch=runs/quickstart/arch.json
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from latency import measure
from pnas_tf import arch as arch_lib
from pnas_tf import latency_table, run_flags
from pnas_tf.arch import Arch
from pnas_tf.errors import InputError
from pnas_tf.latency_table import LatencyTable


def run(*, table: LatencyTable, archs: Sequence[Arch]) -> dict[str, Any]:
    """Times networks on the target of a table.

    Args:
        table: its header says how it was measured; networks are measured in the same way.
        archs: networks that the table covers.

    Returns:
        target, networks (ops, predicted_ms and measured_ms of each), and the figures of `figures`.

    Raises:
        InputError: if the table lacks a row, or its target is not at hand.
    """
    from tqdm import tqdm

    from pnas_tf import cost

    predicted = [cost.of_arch(arch, cost.milliseconds(table)) for arch in archs]
    device = measure.from_header(table.header, table.path)
    builds = [measure.network_build(arch) for arch in archs]
    measured = [times["median_ms"] for times in tqdm(device.measure(builds), total=len(archs), unit="network")]
    networks = [{"ops": arch.ops, "predicted_ms": prediction, "measured_ms": measurement}
                for arch, prediction, measurement in zip(archs, predicted, measured, strict=True)]
    return {"target": table.target, "networks": networks, **figures(np.array(predicted), np.array(measured))}


def figures(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float | None]:
    """How well predictions hold.

    Args:
        predicted: milliseconds [networks].
        measured: milliseconds [networks].

    Returns:
        within_5_percent and within_10_percent (shares of networks), bias (mean of predicted / measured, less 1),
        rmse_ms, rmse_of_mean (rmse_ms / mean measured), and spearman, None for fewer than 3 networks.
    """
    error = predicted / measured - 1
    rmse_ms = float(np.sqrt(np.mean((predicted - measured) ** 2)))
    return {"within_5_percent": float(np.mean(np.abs(error) <= 0.05)),
            "within_10_percent": float(np.mean(np.abs(error) <= 0.10)), "bias": float(np.mean(error)),
            "rmse_ms": rmse_ms, "rmse_of_mean": rmse_ms / float(np.mean(measured)),
            "spearman": float(np.corrcoef(_ranks(predicted), _ranks(measured))[0, 1]) if len(measured) > 2 else None}


def _ranks(values):
    return np.argsort(np.argsort(values))


def _show(result):
    lines = [f"\n{'network':>8} {'predicted':>13} {'measured':>13} {'error':>9}"]
    for number, network in enumerate(result["networks"], start=1):
        predicted_ms, measured_ms = network["predicted_ms"], network["measured_ms"]
        error = predicted_ms / measured_ms - 1
        lines.append(f"{number:>8} {predicted_ms:>10.4f} ms {measured_ms:>10.4f} ms {error:>+9.1%}")
    spearman = "" if result["spearman"] is None else f", Spearman {result['spearman']:.4f}"
    lines.append(f"{result['target']}, {len(result['networks'])} networks: {result['within_5_percent']:.0%} within "
                 f"5 %, {result['within_10_percent']:.0%} within 10 %, bias {result['bias']:+.1%}, RMSE "
                 f"{result['rmse_ms']:.4f} ms ({result['rmse_of_mean']:.1%} of the mean){spearman}")
    return "\n".join(lines)


def _define_flags() -> None:
    flags.DEFINE_string("table", None, "Latency table: a file, or the name of a shipped one.")
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Multiplies all widths of the space.", 0.05, 20)
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: the space's own.", 0, 8192)
    flags.DEFINE_integer("image_channels", 0, "Channels of the images; 0: the space's own.", 0, 1024)
    flags.DEFINE_integer("num_classes", 0, "Classes; 0: the space's own.", 0, 1_000_000)
    flags.DEFINE_integer("networks", 10, "Random networks of the space.", 1, 10_000)
    flags.DEFINE_string("arch", None, "One network instead: name of a shipped arch or path of an arch.json.")
    flags.DEFINE_integer("seed", 0, "Of the random networks.", 0, 2**31 - 1)
    flags.DEFINE_string("json", None, "File for the result.")


def _main() -> None:
    f = flags.FLAGS
    if not f.table:
        raise InputError("Name the table: --table=TABLE.jsonl.")
    table = latency_table.read(f.table)
    if f.arch:
        archs = [arch_lib.load(f.arch)]
    else:
        space = measure.load_space(f.space, width_mult=f.width_mult, image_size=f.image_size,
                                   image_channels=f.image_channels, num_classes=f.num_classes)
        table.check_covers(space)
        archs = measure.random_archs(space, f.networks, f.seed)
    run_flags.load_tensorflow()
    result = run(table=table, archs=archs)
    print(_show(result))
    if f.json:
        arch_lib.write_text(f.json, json.dumps(result, indent=1) + "\n")
        print(f"Result: {f.json}")


def main() -> None:
    """Console script."""
    _define_flags()
    run_flags.start(_main)


if __name__ == "__main__":
    main()
