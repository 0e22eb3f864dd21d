"""An arch as a plain Keras model, and counts of its parameters, MACs and bytes.

    model = network.build_network("proxyless_mobile", num_classes=10)
    network.portable(model).save("model.keras")     # loads in every version of Keras 3, without this package

    features = network.build_network("efficientnet_lite0", weights="imagenet", include_top=False)

`build.py` also builds models of single ops and saves models; `layers.py` has the namespaces of layers to build from;
`pretrained.py` has the shipped weights; `evaluate.py` has loss, accuracy and the recalibration of batch norm.
"""

from pnas_tf.network.build import assemble, build_network, build_op, portable
from pnas_tf.network.counts import count_macs, count_params, count_size_bytes, peak_activation_bytes

__all__ = ["assemble", "build_network", "build_op", "count_macs", "count_params", "count_size_bytes",
           "peak_activation_bytes", "portable"]
