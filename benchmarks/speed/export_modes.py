"""Size, activation memory and milliseconds of an arch in each mode of the converter.

    python -m benchmarks.speed.export_modes --arch=proxyless_mobile
    python -m benchmarks.speed.export_modes --arch=proxyless_mobile --out_dir=runs/modes  # for latency.profile

The weights are random, so the benchmark says nothing about accuracy. Files of int8_qat run as fast as those of int8.
"""

import os
from typing import Any

from absl import flags

from pnas_tf.cli import start


def run(name: str, num_classes: int, threads: int, out_dir: str | None) -> list[dict[str, Any]]:
    """Converts a network in each mode, and times it.

    Args:
        name: Name of a published network, or path of an arch.json.
        num_classes: Classes of the network.
        threads: CPU threads.
        out_dir: Folder that keeps the files; None to keep nothing.

    Returns:
        For each mode: mode, size_bytes, peak_activation_bytes, and the median milliseconds with XNNPACK (xnnpack_ms)
        and with TFLite's built-in kernels (none_ms).
    """
    from export import convert, graph, interpreter, timed_files
    from pnas_tf import files, network

    model = network.build_network(name, num_classes=num_classes)
    contents = {mode: convert.to_time(model, mode) for mode in convert.MODES}
    if out_dir:
        for mode, content in contents.items():
            files.write_bytes(os.path.join(out_dir, f"{mode}.tflite"), content)
    times = {delegate: timed_files.measured(contents, threads=threads, delegate=delegate, patience_seconds=60)
             for delegate in interpreter.DELEGATES}
    return [{"mode": mode, "size_bytes": len(content),
             **{f"{delegate}_ms": times[delegate][mode]["measured_ms"] for delegate in times},
             "peak_activation_bytes": graph.peak_activation_bytes(graph.describe(content))}
            for mode, content in contents.items()]


def main() -> None:
    """Entry point."""
    arch = flags.DEFINE_string("arch", "proxyless_mobile", "Name of a published network, or path of an arch.json.")
    num_classes = flags.DEFINE_integer("num_classes", 1000, "Number of classes.", 1)
    threads = flags.DEFINE_integer("threads", 1, "Number of CPU threads.", 1, 256)
    out_dir = flags.DEFINE_string("out_dir", None, "Folder that keeps the files; default: none.")

    def show():
        start.load_tensorflow()
        print(f"{'mode':<8} {'MB':>7} {'activations, MB':>16} {'XNNPACK ms':>11} {'built-in ms':>12}")
        for row in run(arch.value, num_classes.value, threads.value, out_dir.value):
            print(f"{row['mode']:<8} {row['size_bytes'] / 1e6:>7.2f} {row['peak_activation_bytes'] / 1e6:>16.2f} "
                  f"{row['xnnpack_ms']:>11.2f} {row['none_ms']:>12.2f}")

    start.start(show)


if __name__ == "__main__":
    main()
