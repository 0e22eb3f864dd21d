"""An arch as a plain Keras model."""

from pnas_tf.network.build import build_network, build_op, portable
from pnas_tf.network.counts import count_macs, count_params, count_size_bytes, peak_activation_bytes

__all__ = ["build_network", "build_op", "count_macs", "count_params", "count_size_bytes", "peak_activation_bytes",
           "portable"]
