"""Image files as tensors: the view of the evaluation, random crops, and whole images.

TensorFlow decodes ordinary JPEG and PNG files, of a JPEG only the part that is needed and, for training, at the scale
that is needed; Pillow decodes all others. Which way a file is read is found once, before the training
(`pictures.header`), and is carried along with its path.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pnas_tf.data import pictures
from pnas_tf.data.pictures import BY_PILLOW, CROP_AREA, UPRIGHT, Rendering

# The original's recipe for ImageNet: aspect ratio of the random crop, and central part of the evaluation view.
CROP_RATIO = (3 / 4, 4 / 3)
CENTRAL_PART = 224 / 256

# TensorFlow's default, INTEGER_FAST, is off by one grey level on average and shifts the mean of red and blue by as
# much. INTEGER_ACCURATE gives the same pixels as other libraries.
DCT_METHOD = "INTEGER_ACCURATE"

# libjpeg decodes at these fractions of the size.
JPEG_SCALES = (1, 2, 4, 8)

# `pictures.turn` of each way to read a file, as rows of (flips rows, flips columns, swaps rows with columns).
_TURNS = np.array([pictures.turn(reading) for reading in range(9)])


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file inside a graph.

    Attributes:
        contents: Bytes of the file, scalar string.
        path: Path for error messages, scalar string.
        reading: Way to read it, as in `pictures.Header`, scalar int32.
        rendering: Background and white.
        ways: Values that `reading` may have. The graph has no ops for the others, which keeps ordinary files fast.
    """

    contents: tf.Tensor
    path: tf.Tensor
    reading: tf.Tensor
    rendering: Rendering = dataclasses.field(default_factory=Rendering)
    ways: frozenset[int] = frozenset(range(9))


def of_contents(contents: tf.Tensor, background: tuple[int, int, int] = (255, 255, 255)) -> ImageFile:
    """An image file whose header was not read before.

    Args:
        contents: Bytes of the file, scalar string.
        background: Colour behind transparent parts.
    """
    def reading(contents):
        return np.int32(pictures.reading_of(_as_bytes(contents)))

    number = tf.ensure_shape(tf.numpy_function(reading, [contents], tf.int32, stateful=False), [])
    return ImageFile(contents, tf.constant("An image"), number, Rendering(background))


def random_crop(file: ImageFile, image_size: int, seed: tf.Tensor, smallest: float = CROP_AREA) -> tf.Tensor:
    """Decodes a random part of an image file, resizes it, and flips it with probability 1/2.

    Args:
        file: The image file.
        image_size: Height and width of the result.
        seed: Seed, integers [2].
        smallest: Smallest share of the image's area that the part covers.

    Returns:
        float32 [image_size, image_size, 3].
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))

    def window(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), crop_seed, min_object_covered=0.0,
            aspect_ratio_range=CROP_RATIO, area_range=(smallest, 1.0), max_attempts=10)
        return tf.concat([begin[:2], size[:2]], 0)

    part = _part(file, window, image_size)
    return tf.image.stateless_random_flip_left_right(_resized(part, image_size), flip_seed)


def central_crop(file: ImageFile, image_size: int) -> tf.Tensor:
    """Decodes the evaluation view: the shorter side resized to `image_size * 256 / 224`, then the central square.

    The central square, 7/8 of the shorter side, is cut out first and then resized: the same view from fewer pixels.

    Args:
        file: The image file.
        image_size: Height and width of the result.

    Returns:
        float32 [image_size, image_size, 3].
    """
    def window(shape):
        side = tf.cast(tf.reduce_min(shape[:2]), tf.float32) * CENTRAL_PART
        side = tf.maximum(1, tf.cast(tf.round(side), tf.int32))
        return tf.concat([(shape[:2] - side) // 2, [side, side]], 0)

    return _resized(_part(file, window), image_size)


def whole(file: ImageFile) -> tf.Tensor:
    """Decodes a whole image, uint8 [height, width, 3]."""
    return _part(file, lambda shape: tf.concat([[0, 0], shape[:2]], 0))


def decode_all(files: Sequence[bytes]) -> np.ndarray:
    """Decodes JPEG files of one size into memory.

    Args:
        files: Bytes of each file.

    Returns:
        uint8 [images, height, width, 3].
    """
    with tf.device("CPU"):
        decoded = tf.data.Dataset.from_tensor_slices(list(files)).map(
            lambda contents: whole(ImageFile(contents, tf.constant("An image"), tf.constant(UPRIGHT))),
            tf.data.AUTOTUNE).batch(500)
        return np.concatenate(list(decoded.as_numpy_iterator()))


def resize_all(images: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes images in memory.

    Args:
        images: Images, uint8 [images, height, width, channels].
        image_size: New height and width.

    Returns:
        uint8 [images, image_size, image_size, channels].
    """
    resized = np.empty((len(images), image_size, image_size, images.shape[-1]), np.uint8)
    with tf.device("CPU"):
        for first in range(0, len(images), 500):
            part = _resize(images[first:first + 500], image_size, True)
            resized[first:first + 500] = tf.cast(tf.round(part), tf.uint8).numpy()
    return resized


def _resized(part: tf.Tensor, image_size: int) -> tf.Tensor:
    # Antialiasing halves the speed of the whole pipeline, and bilinear weights cover two pixels without it. Parts of
    # JPEG files are small already: each of their pixels is the mean of those of the file.
    shrinks = tf.reduce_max(tf.shape(part)[:2]) > 2 * image_size
    resized = tf.cond(shrinks, lambda: _resize(part, image_size, True), lambda: _resize(part, image_size, False))
    return tf.ensure_shape(resized, [image_size, image_size, 3])


def _resize(images: tf.Tensor, image_size: int, antialias: bool) -> tf.Tensor:
    return tf.clip_by_value(tf.image.resize(images, [image_size, image_size], antialias=antialias), 0.0, 255.0)


def _part(file: ImageFile, window: Callable, least: int | None = None) -> tf.Tensor:
    """A part of an image, uint8.

    Args:
        file: The image file.
        window: Function of the shape of the upright image to [top, left, height, width] of the part.
        least: The part of a JPEG may be returned at a half, a quarter or an eighth of its size, as long as both its
            sides have so many pixels; None for its own size. The window of every file is rounded to the scale.
    """
    if least is not None:
        window = functools.partial(_rounded, window, least)

    def by_pillow():
        image = _by_pillow(file)
        return _cut(image, window(tf.shape(image)))

    if file.ways == {BY_PILLOW}:
        return by_pillow()
    if BY_PILLOW not in file.ways:
        return _by_tensorflow(file, window, least)
    part = tf.cond(file.reading == BY_PILLOW, by_pillow, lambda: _by_tensorflow(file, window, least))
    return tf.ensure_shape(part, [None, None, 3])


def _by_pillow(file: ImageFile) -> tf.Tensor:
    def decode(contents, path):
        try:
            return pictures.decode(_as_bytes(contents), file.rendering)
        except pictures.Unreadable as error:
            raise pictures.Unreadable(f"[{_as_bytes(path).decode('utf-8', 'backslashreplace')}] {error}") from None

    image = tf.numpy_function(decode, [file.contents, file.path], tf.uint8, stateful=False)
    return tf.ensure_shape(image, [None, None, 3])


def _by_tensorflow(file: ImageFile, window: Callable, least: int | None) -> tf.Tensor:
    """Decodes a part of a JPEG or PNG file, and turns it as EXIF's orientation says."""
    if file.ways <= {BY_PILLOW, UPRIGHT}:
        return _lying(file, window, least)
    flips_rows, flips_columns, swaps = tf.unstack(tf.gather(_TURNS, file.reading))

    def in_file(shape):
        """The window in the image as it lies in the file, whose shape is given."""
        top, left, height, width = tf.unstack(window(tf.gather(shape, tf.where(swaps, [1, 0, 2], [0, 1, 2]))))
        top, left, height, width = tf.unstack(tf.where(swaps, [left, top, width, height], [top, left, height, width]))
        return tf.stack([tf.where(flips_rows, shape[0] - top - height, top),
                         tf.where(flips_columns, shape[1] - left - width, left), height, width])

    def turned(part):
        part = tf.cond(flips_rows, lambda: part[::-1], lambda: part)
        part = tf.cond(flips_columns, lambda: part[:, ::-1], lambda: part)
        return tf.cond(swaps, lambda: tf.transpose(part, [1, 0, 2]), lambda: part)

    part = _lying(file, in_file, least)
    return tf.cond(file.reading == UPRIGHT, lambda: part, lambda: turned(part))


def _lying(file: ImageFile, window: Callable, least: int | None) -> tf.Tensor:
    """Decodes a part of a JPEG or PNG file as it lies in the file."""
    contents = _checked(file)

    def jpeg():
        part = window(tf.io.extract_jpeg_shape(contents))
        if least is None:
            return _jpeg(contents, part, 1)
        return tf.switch_case(_fitting_scale(part, least),
                              [functools.partial(_jpeg, contents, part, scale) for scale in JPEG_SCALES])

    def png():
        image = tf.io.decode_png(contents)
        return _on_background(_cut(image, window(tf.shape(image))), file.rendering.background)

    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(contents), jpeg, png), [None, None, 3])


def _rounded(window: Callable, least: int, shape: tf.Tensor) -> tf.Tensor:
    """A window whose numbers are multiples of its scale: else turned files would give parts that lie elsewhere."""
    part = window(shape)
    scale = tf.gather(JPEG_SCALES, _fitting_scale(part, least))
    return part // scale * scale


def _fitting_scale(part: tf.Tensor, least: int) -> tf.Tensor:
    """Position in `JPEG_SCALES` of the largest scale at which both sides of a part still have `least` pixels."""
    return tf.reduce_sum(tf.cast(tf.reduce_min(part[2:]) >= least * np.array(JPEG_SCALES[1:]), tf.int32))


def _jpeg(contents: tf.Tensor, part: tf.Tensor, scale: int) -> tf.Tensor:
    """Decodes a part of a JPEG file at 1 / scale of its size: of pixels that become one, only the mean is computed."""
    return tf.io.decode_and_crop_jpeg(contents, part // scale, channels=3, ratio=scale, dct_method=DCT_METHOD)


def _as_bytes(text: bytes | np.ndarray) -> bytes:
    """A string of `tf.numpy_function`, which outside graphs is an array."""
    return text if isinstance(text, bytes) else text.item()


def _cut(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(window)
    return image[top:top + height, left:left + width]


def _on_background(image: tf.Tensor, background: Sequence[int]) -> tf.Tensor:
    """An image of 1 to 4 channels on a background, uint8 [height, width, 3]."""
    channels = tf.shape(image)[-1]

    def others():
        colours = tf.gather(image, tf.where(channels >= 3, [0, 1, 2], [0, 0, 0]), axis=-1)
        return tf.cond(channels == 1, lambda: colours, lambda: composite(colours))

    def composite(colours):
        alpha = tf.cast(image[..., -1:], tf.int32)
        mixed = tf.cast(colours, tf.int32) * alpha + tf.constant(background) * (255 - alpha)
        return tf.cast((mixed + 127) // 255, tf.uint8)

    return tf.ensure_shape(tf.cond(channels == 3, lambda: image, others), [None, None, 3])


def _checked(file: ImageFile) -> tf.Tensor:
    """Contents of a JPEG or PNG file whose header claims no more than `pictures.MAX_PIXELS`.

    If the check fails, TensorFlow raises an InvalidArgumentError that names the file.
    """
    is_png = tf.strings.substr(file.contents, 0, 4) == b"\x89PNG"
    known = tf.debugging.Assert(tf.io.is_jpeg(file.contents) | is_png,
                                ["Not a JPEG or PNG image any more; remove it or save it again:", file.path])
    with tf.control_dependencies([known]):
        pixels = _claimed_pixels(tf.identity(file.contents))
        sane = tf.debugging.Assert(pixels <= pictures.MAX_PIXELS,
                                   [f"More than {pictures.MAX_PIXELS:,} pixels; remove it or make it smaller:",
                                    file.path])
    with tf.control_dependencies([sane]):
        return tf.identity(file.contents)


def _claimed_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Width times height according to the header of a JPEG or PNG file, float32. Missing bytes count as 0."""
    def jpeg():
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.float32))

    def png():
        sides = tf.io.decode_raw(tf.strings.substr(contents + b"\0" * 24, 16, 8), tf.int32, little_endian=False)
        return tf.reduce_prod(tf.abs(tf.cast(sides, tf.float32)))

    return tf.cond(tf.io.is_jpeg(contents), jpeg, png)
