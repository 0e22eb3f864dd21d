"""Parts of a data set as batches: endless and shuffled for training, or one pass in order."""

import abc
import copy
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from pnas_tf.data import augment as augment_lib
from pnas_tf.data import decoding, inspection, pictures
from pnas_tf.data.rand_augment import RandAugment


@dataclasses.dataclass(frozen=True)
class Share:
    """Range of the replicas that an input pipeline serves.

    Attributes:
        first: Index of the first replica.
        count: Number of replicas that the pipeline serves.
        total: Number of all replicas.
    """

    first: int = 0
    count: int = 1
    total: int = 1


ALONE = Share()


@dataclasses.dataclass(frozen=True)
class Changes:
    """Random changes of training images besides flips, and crops of images in memory.

    Attributes:
        jitter: Largest changes of colour, a key of `augment.JITTERS`. Only images in files have them.
        cutout: Side of the square that is set to the mean, pixels; 0 for none.
        randaugment: Magnitude of `RandAugment`; 0 for none.
        crop_area: Smallest share of the area that a crop covers. Images in memory are cropped by a few pixels.
    """

    jitter: str = "normal"
    cutout: int = 0
    randaugment: float = 0.0
    crop_area: float = pictures.CROP_AREA


USUAL = Changes()


class Part(abc.ABC):
    """One part of a data set: its training, held-out or test images."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, members: np.ndarray, image_size: int,
                 mean: Sequence[float], std: Sequence[float]):
        """
        Args:
            images: Images or paths, see the subclass. Several parts may share them.
            labels: Labels, int32 [images].
            members: Positions of this part's images, integers.
            image_size: Height and width of the images in batches.
            mean: Pixel mean by channel.
            std: Pixel standard deviation by channel.
        """
        with tf.device("CPU"):
            self._images, self._labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
            self._members = self._pass = tf.convert_to_tensor(members, tf.int64)
        self._image_size, self._mean, self._std = image_size, mean, std

    def mixed(self) -> Self:
        """The same images, of which a single pass comes in a random order, always the same."""
        other = copy.copy(self)
        with tf.device("CPU"):
            other._pass = tf.convert_to_tensor(np.random.default_rng(0).permutation(np.asarray(self._members)))
        return other

    @property
    def _grey(self) -> bool:
        """Whether images have one channel."""
        return len(self._mean) == 1

    def _randaugment(self, changes: Changes | None) -> RandAugment | None:
        return RandAugment(changes.randaugment, grey=self._grey) if changes and changes.randaugment else None

    @property
    def size(self) -> int:
        """Number of images."""
        return self._members.shape[0]

    def labels(self) -> np.ndarray:
        """Labels in the order of a single pass of `batches`, int32 [images]."""
        return np.asarray(self._labels)[np.asarray(self._pass)]

    def class_counts(self) -> np.ndarray:
        """Number of images of each class, int64 [classes], up to the largest label that occurs."""
        return np.bincount(self.labels())

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of full batches in one pass over the images, at least 1."""
        return max(1, self.size // batch_size)

    def batches(self, batch_size: int, *, augment: bool = False, changes: Changes = USUAL, seed: int | None = None,
                skip_steps: int = 0, share: Share = ALONE) -> tf.data.Dataset:
        """Batches of normalised images and their labels.

        With a seed, batches never end, every batch is full (images repeat if there are fewer than a batch), and each
        epoch has its own order. A batch depends only on the seed and its step, so an interrupted run resumes with the
        same batches. Without a seed, there is one pass in a fixed order, and the last batch may be smaller.

        Args:
            batch_size: Number of images in a batch.
            augment: Whether to change images at random; needs a seed.
            changes: How augmented images are changed.
            seed: Seed of the order and of the changes, or None.
            skip_steps: Number of batches to skip at the start. They are not read.
            share: Replicas to serve; needs a seed if it leaves some out. Each element is then one replica's part of a
                batch; together, the parts are the batch that a single replica would get.

        Returns:
            Data set of (float32 [batch, height, width, channels], int32 [batch]).

        Raises:
            ValueError: If `augment` is set without a seed.
        """
        if augment and seed is None:
            raise ValueError("augment=True draws random numbers: give a seed.")
        with tf.device("CPU"):
            order = self._once(batch_size) if seed is None else self._endless(batch_size, seed, skip_steps)
            if seed is None:
                order = order.skip(skip_steps)
            images = self._read(self._shared(order, batch_size, share), batch_size, share, seed is not None,
                                changes if augment else None)
            if seed is None:  # Keras warns if the number of batches is unknown
                images = images.apply(tf.data.experimental.assert_cardinality(
                    max(0, -(-self.size // batch_size) - skip_steps)))
            return images.prefetch(tf.data.AUTOTUNE)

    def _once(self, batch_size: int) -> tf.data.Dataset:
        """One pass of (int64 [batch] positions of images, int64 [2] unused seed)."""
        positions = tf.data.Dataset.from_tensor_slices(self._pass).batch(batch_size)
        return positions.map(lambda positions: (positions, tf.zeros([2], tf.int64)))

    def _endless(self, batch_size: int, seed: int, skip_steps: int) -> tf.data.Dataset:
        """Endless (int64 [batch] positions of images, int64 [2] seed of the batch), from step `skip_steps` on."""
        steps = self.steps_per_epoch(batch_size)
        places = np.arange(steps * batch_size) % self.size

        def epoch(number):
            # The epoch's seed is negative, because [seed, step] already seeds the augmentation of a step.
            shuffled = tf.random.experimental.stateless_shuffle(self._members, tf.stack([seed, -1 - number]))
            return tf.data.Dataset.from_tensor_slices(tf.reshape(tf.gather(shuffled, places), [steps, batch_size]))

        positions = tf.data.Dataset.counter(skip_steps // steps).flat_map(epoch).skip(skip_steps % steps)
        return positions.enumerate(skip_steps).map(lambda step, positions: (positions, tf.stack([seed, step])))

    def _shared(self, order: tf.data.Dataset, batch_size: int, share: Share) -> tf.data.Dataset:
        """(positions of images [part], seed of the batch, int64 [part] places in the batch), for each replica."""
        if share.total == 1:
            return order.map(lambda positions, seed: (positions, seed, tf.range(tf.size(positions, tf.int64))))
        own = slice(share.first, share.first + share.count)
        places = np.arange(batch_size).reshape(share.total, -1)[own]

        def parts(positions, seed):
            seeds = tf.repeat(seed[None], share.count, 0)
            return tf.data.Dataset.from_tensor_slices((tf.gather(positions, places), seeds, places))

        return order.flat_map(parts)

    def thumbnails(self, places: np.ndarray, side: int) -> list[bytes]:
        """Small pictures of some images, as the network sees them.

        Args:
            places: Places of the images in a single pass of `batches`, integers [count].
            side: Largest height and width in pixels. Images are never enlarged.

        Returns:
            PNG files.
        """
        side, pictures = min(side, self._image_size), []
        with tf.device("CPU"):
            for image in self._views(np.asarray(self._pass)[places]):
                small = tf.image.resize(image, [side, side], antialias=True)
                pictures.append(tf.io.encode_png(tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8)).numpy())
        return pictures

    def at_size(self, image_size: int) -> Self:
        """The same images, which batches show at another size. Images in memory keep theirs.

        Args:
            image_size: Height and width.
        """
        return self

    def first_unreadable(self) -> tuple[str, str] | None:
        """Path of a file of this part that cannot be decoded, and the reason; None if there is none."""
        return None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the labels and images, in hexadecimal, and how it was made if that is unusual.

        It tells other contents under the same name apart.
        """
        labels = np.asarray(self._labels)[np.asarray(self._members)]
        digest = hashlib.sha256(labels.astype("<i4").tobytes())
        for content in self._contents():
            digest.update(content)
        return digest.hexdigest()[:16] + self._rule()

    def _rule(self) -> str:
        """How the fingerprint was made, in words that follow it; "" if in the usual way."""
        return ""

    @abc.abstractmethod
    def _contents(self) -> Iterable[bytes]:
        """Bytes that identify the images, in order."""

    @abc.abstractmethod
    def paths(self, places: np.ndarray) -> list[str | None]:
        """Paths of the files of some images; None for images in memory. Argument as for `thumbnails`."""

    @abc.abstractmethod
    def _views(self, positions: np.ndarray) -> Iterable[tf.Tensor]:
        """Pixels 0..255 of images without random changes, [image_size, image_size, channels] each."""

    @abc.abstractmethod
    def _read(self, order: tf.data.Dataset, batch_size: int, share: Share, endless: bool,
              changes: Changes | None) -> tf.data.Dataset:
        """Turns elements of `_shared` into images and labels.

        Random changes of an image depend on its place in the batch, not on the share.
        """


class ArrayPart(Part):
    """Images in memory, uint8 [images, height, width, channels], changed one batch at a time."""

    def _contents(self):
        images, members = np.asarray(self._images), np.asarray(self._members)
        for begin in range(0, len(members), 1024):
            yield images[members[begin:begin + 1024]].tobytes()

    def paths(self, places):
        return [None] * len(places)

    def _views(self, positions):
        return tf.gather(self._images, positions)

    def _read(self, order, batch_size, share, endless, changes):
        randaugment = self._randaugment(changes)

        def read(positions, seed, places):
            images = tf.gather(self._images, positions)
            if changes:
                images = augment_lib.crop_and_flip(images, seed, places, batch_size)
            if randaugment:
                images = randaugment.batch(images, seed, places, batch_size)
            images = augment_lib.normalise(images, self._mean, self._std)
            if changes and changes.cutout:
                images = augment_lib.cutout(images, seed, places, batch_size, changes.cutout)
            return images, tf.gather(self._labels, positions)

        return order.map(read, tf.data.AUTOTUNE, deterministic=True)


class FilePart(Part):
    """Images in `image_files.Files`, read and changed one at a time."""

    def __init__(self, images, labels, members, image_size, mean, std):
        super().__init__(images.paths, labels, members, image_size, mean, std)
        self._files = images

    def _contents(self):
        return [self._files.digests[np.asarray(self._members)].tobytes()]

    def _rule(self):
        # Earlier versions read a small part of a large data set whole, so its record there is another.
        is_small = len(np.asarray(self._members)) <= inspection.MAX_WHOLE
        return " of the ends of files" if self._files.are_ends and is_small else ""

    def at_size(self, image_size):
        other = copy.copy(self)
        other._image_size, other._files = image_size, self._files.suiting(image_size)
        return other

    def first_unreadable(self):
        return inspection.first_unreadable(list(tf.gather(self._files.paths, self._members).numpy()),
                                           tf.gather(self._files.readings, self._members).numpy())

    def paths(self, places):
        files = tf.gather(self._images, np.asarray(self._pass)[places]).numpy()
        return [path.decode("utf-8", "backslashreplace") for path in files]

    def _views(self, positions):
        for position in positions:
            yield decoding.central_crop(self._files[position], self._image_size)

    def _read(self, order, batch_size, share, endless, changes):
        randaugment = self._randaugment(changes)
        files = self._files.suiting(self._image_size, changes.crop_area) if changes else self._files

        def one_by_one(positions, seed, places):
            seeds = tf.gather(tf.random.split(seed, batch_size), places)
            return tf.data.Dataset.from_tensor_slices((positions, seeds))

        def read(position, seed):
            file = files[position]
            if changes:
                crop_seed, colour_seed = tf.unstack(tf.random.split(seed, 2))
                image = decoding.random_crop(file, self._image_size, crop_seed, changes.crop_area)
                image = augment_lib.colour_jitter(image, colour_seed, augment_lib.JITTERS[changes.jitter])
                if randaugment:
                    image = randaugment(image, tf.random.fold_in(seed, 2))
            else:
                image = decoding.central_crop(file, self._image_size)
            image = augment_lib.normalise(image, self._mean, self._std)
            if changes and changes.cutout:
                image = augment_lib.cutout(image[None], seed, [0], 1, changes.cutout)[0]
            return image, tf.gather(self._labels, position)

        images = order.flat_map(one_by_one).map(read, tf.data.AUTOTUNE, deterministic=True)
        return images.batch(batch_size // share.total, drop_remainder=endless)
