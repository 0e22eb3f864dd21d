"""Flags that name a search space and fit it to the user's images: the same ones wherever ops or networks are timed."""

from absl import flags

from latency import measure
from pnas_tf.space.blocks import Space

# They belong to the entry point that asks for them, which is where --help looks.
flags.disclaim_key_flags()


def define() -> None:
    """Defines them. Called by an entry point."""
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Multiplies all widths of the space.", 0.05, 20)
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: the space's own.", 0, 8192)
    flags.DEFINE_integer("image_channels", 0, "Channels of the images; 0: the space's own.", 0, 1024)
    flags.DEFINE_integer("num_classes", 0, "Classes; 0: the space's own.", 0, 1_000_000)


def space_of(values: flags.FlagValues) -> Space:
    """The space that parsed flags name.

    Raises:
        InputError: if there is no such space.
    """
    return measure.load_space(values.space, width_mult=values.width_mult, image_size=values.image_size,
                              image_channels=values.image_channels, num_classes=values.num_classes)
