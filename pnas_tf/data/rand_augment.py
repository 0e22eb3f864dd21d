"""RandAugment (Cubuk et al. 2020): two random changes of colour or geometry for each image."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

CHANGES = 2
# Changes an image by a seed: (float32 [height, width, channels], integers [2]) to float32 [height, width, channels].
Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class RandAugment:
    """Changes images by Keras' layers, with magnitudes up to those of the paper.

    keras.layers.RandAugment draws from a state of its own, changes all images of a batch alike, computes all eleven
    changes for each, and turns images by up to half a circle. Here, a change depends on the seed of its image alone,
    as an exact resume requires, and only the changes that were drawn are computed.
    """

    def __init__(self, magnitude: float, *, grey: bool = False):
        """
        Args:
            magnitude: Size of the largest changes, above 0 and up to 1.
            grey: Whether images have one channel, and so no colour to change.
        """
        layers, fill = keras.layers, {"fill_mode": "constant", "fill_value": 128.0}
        shift = (-0.45 * magnitude, 0.45 * magnitude)
        self._changes = [*map(_by_layer, [
            layers.AutoContrast(), layers.Equalization(),
            layers.RandomRotation(magnitude / 12, **fill),  # 30 degrees
            layers.RandomShear(0.3 * magnitude, 0.0, **fill), layers.RandomShear(0.0, 0.3 * magnitude, **fill),
            layers.RandomTranslation(shift, 0.0, **fill), layers.RandomTranslation(0.0, shift, **fill),
            layers.RandomBrightness(0.45 * magnitude), layers.RandomContrast(0.9 * magnitude),
            layers.RandomSharpness((0.5 - 0.45 * magnitude, 0.5 + 0.45 * magnitude)),
            layers.RandomPosterization((round(8 - 4 * magnitude), 8)),
            *([] if grey else [layers.RandomColorDegeneration(0.9 * magnitude)]),
        ]), _solarisation(magnitude)]

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Changes an image.

        Args:
            image: Pixels 0..255, [height, width, channels].
            seed: Seed of the image, integers [2].

        Returns:
            Changed pixels 0..255, float32 [height, width, channels].
        """
        image, shape = tf.cast(image, tf.float32), image.shape
        for own in tf.unstack(tf.random.split(seed, CHANGES)):
            which = tf.random.stateless_uniform([], own, maxval=len(self._changes), dtype=tf.int32)
            image = tf.switch_case(which, [functools.partial(change, image, own) for change in self._changes])
            image = tf.ensure_shape(tf.clip_by_value(image, 0.0, 255.0), shape)
        return image

    def batch(self, images: tf.Tensor, seed: tf.Tensor, places: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Changes each image of a batch; arguments as for `augment.crop_and_flip`."""
        seeds = tf.gather(tf.random.split(tf.random.fold_in(seed, 2), batch_size), places)
        return tf.map_fn(lambda each: self(*each), (images, seeds), fn_output_signature=tf.float32)


class _Draws(keras.random.SeedGenerator):
    """Seeds for a layer that depend only on the seed of an image."""

    def __init__(self, seed: tf.Tensor):  # without the state that the base class makes
        self._seed, self._draws = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """A further seed, int32 [2]."""
        self._draws += 1
        return tf.cast(tf.random.fold_in(self._seed, self._draws), tf.int32)


def _by_layer(layer: keras.layers.Layer) -> Change:
    def change(image, seed):
        drawn = layer.get_random_transformation(image[None], training=True, seed=_Draws(seed))
        return tf.cast(layer.transform_images(image[None], drawn, training=True)[0], tf.float32)

    return change


def _solarisation(magnitude: float) -> Change:
    """Inverts bright pixels. keras.layers.Solarization ignores the least threshold that it is given."""
    def change(image, seed):
        threshold = tf.random.stateless_uniform([], seed, 255.0 * (1.0 - magnitude), 255.0)
        return tf.where(image < threshold, image, 255.0 - image)

    return change
