"""Milliseconds of the gradient of a depthwise filter: the backend's kernel against those of pnas_tf.network.layers.

    python -m benchmarks.speed.depthwise_gradient

The times are CPU milliseconds on one thread, medians of alternating calls. The column `used` says which way
`layers.depthwise_conv` takes.
"""

import statistics
import time

from absl import flags

from pnas_tf.cli import start

# Feature maps of the supernets: batch, side, channels, strides.
MAPS = ((16, 112, 96, 2), (16, 56, 144, 1), (16, 28, 240, 1), (16, 14, 480, 1), (16, 14, 576, 2), (16, 7, 1152, 1),
        (64, 14, 144, 1), (64, 7, 384, 1))
SIDES = (3, 5, 7)


def measure(batch: int, size: int, channels: int, strides: int, side: int, runs: int) -> dict[str, float]:
    """Measures each way to compute the gradient of a depthwise filter.

    Args:
        batch: Number of images.
        size: Height and width of the input.
        channels: Number of channels.
        strides: Strides of the convolution.
        side: Height and width of the filter, whose gradient is [side, side, channels, 1].
        runs: Timed calls of each way.

    Returns:
        Median CPU milliseconds by way: backend, explicit, and, for inputs of at most 14 pixels, products.
    """
    import tensorflow as tf

    from pnas_tf.network import layers as fast_layers

    out = -(-size // strides)
    x, upstream = tf.random.normal([batch, size, size, channels]), tf.random.normal([batch, out, out, channels])

    def backend(x, upstream):
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=[side, side, channels, 1], out_backprop=upstream, strides=[1, strides, strides, 1],
            padding="SAME")

    ways = {"backend": backend,
            "explicit": lambda x, upstream: fast_layers.filter_gradient(x, upstream, side, strides)}
    if size <= 14:
        ways["products"] = lambda x, upstream: fast_layers.filter_gradient_small(x, upstream, side, strides)
    compiled = {name: tf.function(way) for name, way in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs + 1):
        for name, way in compiled.items():
            begin = time.process_time()
            way(x, upstream).numpy()
            samples[name].append(1e3 * (time.process_time() - begin))
    return {name: statistics.median(times[1:]) for name, times in samples.items()}


def _main() -> None:
    start.load_tensorflow()
    import tensorflow as tf

    from pnas_tf.network import layers as fast_layers

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"{'map':<22}{'kernel':>7}{'backend':>10}{'explicit':>10}{'products':>10}  used")
    for batch, size, channels, strides in MAPS:
        for side in SIDES:
            ms = measure(batch, size, channels, strides, side, flags.FLAGS.runs)
            used = "backend" if side <= 3 else "products" if size <= fast_layers.SMALL_SIDE else "explicit"
            columns = "".join(f"{ms[way]:>10.2f}" if way in ms else f"{'-':>10}"
                              for way in ("backend", "explicit", "products"))
            print(f"{batch}x{size}x{size}x{channels} /{strides}".ljust(22) + f"{side:>7}{columns}  {used}", flush=True)


def main() -> None:
    """Entry point."""
    flags.DEFINE_integer("runs", 7, "Number of timed calls of each way.", 1)
    start.start(_main)


if __name__ == "__main__":
    main()
