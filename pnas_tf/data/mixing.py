"""Mixes the images of a batch with each other, and their labels likewise: mixup and cutmix.

Keras' layers MixUp and CutMix draw from a state of their own, which a resumed training would have to restore in the
middle of a pipeline that reads ahead. These functions are stateless: a batch depends on the seed and the step alone.
"""

import tensorflow as tf


def mixed(batches: tf.data.Dataset, classes: int, *, mixup: float, cutmix: float, seed: int, skip_steps: int = 0
          ) -> tf.data.Dataset:
    """Mixes each image with the next image of its batch. If both kinds are on, each batch has either by chance.

    Args:
        batches: Endless batches of images and labels, from `Part.batches` with the same seed and steps to skip.
        classes: Number of classes.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of cutmix; 0 for none.
        seed: Seed of the mixture.
        skip_steps: Number of the first batch.

    Returns:
        Data set of (float32 [batch, height, width, channels], shares of the classes float32 [batch, classes]); the
        given data set itself if neither kind is on.
    """
    if not (mixup or cutmix):
        return batches

    def mix(step, batch):
        images, labels = batch
        which, own = tf.unstack(tf.random.split(tf.random.fold_in(tf.stack([tf.cast(seed, tf.int64), step]), 3), 2))
        labels = tf.one_hot(labels, classes)
        if not cutmix:
            return mix_up(images, labels, own, mixup)
        if not mixup:
            return cut_mix(images, labels, own, cutmix)
        return tf.cond(tf.random.stateless_uniform([], which) < 0.5, lambda: mix_up(images, labels, own, mixup),
                       lambda: cut_mix(images, labels, own, cutmix))

    return batches.enumerate(skip_steps).map(mix, tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def mix_up(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends each image with the next one (mixup, Zhang et al. 2018).

        image = share * image + (1 - share) * next image,   share ~ Beta(alpha, alpha)

    Args:
        images: Images, float32 [batch, height, width, channels].
        labels: Shares of the classes, float32 [batch, classes].
        seed: Seed, integers [2].
        alpha: Both parameters of the Beta distribution.

    Returns:
        Images and labels, in the shapes of the given ones.
    """
    share = beta(tf.shape(images)[0], seed, alpha)
    image_share = share[:, None, None, None]
    return (image_share * images + (1.0 - image_share) * _next(images),
            share[:, None] * labels + (1.0 - share[:, None]) * _next(labels))


def cut_mix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Covers a rectangle of each image with that part of the next one (cutmix, Yun et al. 2019).

    The rectangle's sides are `sqrt(1 - share)` of the image's, with share ~ Beta(alpha, alpha), and its centre may be
    any pixel. Labels are mixed in proportion to the pixels that are left.

    Args:
        images: Images, float32 [batch, height, width, channels].
        labels: Shares of the classes, float32 [batch, classes].
        seed: Seed, integers [2].
        alpha: Both parameters of the Beta distribution.

    Returns:
        Images and labels, in the shapes of the given ones.
    """
    share_seed, row_seed, column_seed = tf.unstack(tf.random.split(seed, 3))
    count = tf.shape(images)[0]
    side = tf.sqrt(1.0 - beta(count, share_seed, alpha))

    def band(size, seed):
        length = tf.cast(tf.round(side * size), tf.int32)[:, None]
        first = tf.random.stateless_uniform([count, 1], seed, maxval=size, dtype=tf.int32) - length // 2
        offset = tf.range(size)[None] - first
        return (offset >= 0) & (offset < length)

    covered = band(images.shape[1], row_seed)[:, :, None] & band(images.shape[2], column_seed)[:, None, :]
    share = 1.0 - tf.reduce_mean(tf.cast(covered, tf.float32), [1, 2])[:, None]
    return tf.where(covered[..., None], _next(images), images), share * labels + (1.0 - share) * _next(labels)


def beta(count: tf.Tensor, seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draws from Beta(alpha, alpha), float32 [count]."""
    first, second = tf.unstack(tf.random.stateless_gamma([2, count], seed, alpha))
    return tf.math.divide_no_nan(first, first + second)  # a small alpha gives draws that float32 rounds to 0


def _next(values: tf.Tensor) -> tf.Tensor:
    """For each row, the next one; for the last row, the first. Batches are in random order."""
    return tf.roll(values, -1, 0)
