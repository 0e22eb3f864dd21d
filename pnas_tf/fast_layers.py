"""`keras.layers` with the layers that train slowly on TensorFlow replaced by faster equals.

Pass this module as `layers=` wherever a namespace of layers is asked for. Every name that it does not
define is the one of `keras.layers`. `network.portable` turns a model back into stock layers.
"""

import keras
import tensorflow as tf


def __getattr__(name: str):
    return getattr(keras.layers, name)


@keras.saving.register_keras_serializable(package="pnas_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch norm by the fused kernel in training too.

    Keras 3 on TensorFlow computes moments and normalisation as separate ops when training, which makes a
    whole step of an MBConv network 1.3 times slower. Same weights, same inference. The moving variance
    takes the unbiased batch variance, as in the original (Keras takes the biased one).
    """

    def call(self, inputs, training=None, mask=None):
        fused = training and self.trainable and mask is None and len(inputs.shape) == 4 and self.axis in (-1, 3)
        if not (fused and self.scale and self.center):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = fused_batch_norm(inputs, keras.ops.convert_to_tensor(self.gamma, "float32"),
                                                   keras.ops.convert_to_tensor(self.beta, "float32"), self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


def fused_batch_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Normalises by the statistics of the batch.

    Args:
        x: [batch, height, width, channels], float32, bfloat16 or float16.
        gamma: float32 [channels].
        beta: float32 [channels].
        epsilon: added to the variance.

    Returns:
        The normalised x, and float32 [channels] each: batch mean, unbiased batch variance.
    """
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=tf.zeros([0]), variance=tf.zeros([0]), epsilon=epsilon,
        is_training=True, exponential_avg_factor=1.0)
    return outputs, mean, variance
