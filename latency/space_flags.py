"""Flags that name a search space and fit it to the user's images, for every command that times ops or networks."""

from absl import flags

from pnas_tf.space.blocks import Space

# The flags belong to the command that defines them through this module, which is where --help looks.
flags.disclaim_key_flags()


def define() -> None:
    """Defines the flags."""
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Factor of all widths of the space.", 0.05, 20)
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: the space's own.", 0, 8192)
    flags.DEFINE_integer("image_channels", 0, "Channels of the images; 0: the space's own.", 0, 1024)
    flags.DEFINE_integer("num_classes", 0, "Number of classes; 0: the space's own.", 0, 1_000_000)


def space_of(values: flags.FlagValues) -> Space:
    """The space that parsed flags name.

    Args:
        values: Parsed flags.

    Raises:
        InputError: If there is no such space.
    """
    return load_space(values.space, width_mult=values.width_mult, image_size=values.image_size,
                      image_channels=values.image_channels, num_classes=values.num_classes)


def load_space(name: str, *, width_mult: float = 1.0, image_size: int = 0, image_channels: int = 0,
               num_classes: int = 0) -> Space:
    """A space fitted to the user's images.

    Args:
        name: Name of a space, or path of a JSON file.
        width_mult: Factor of all widths.
        image_size: Height and width of the images; 0 for the space's own.
        image_channels: Channels of the images; 0 for the space's own.
        num_classes: Number of classes; 0 for the space's own.

    Raises:
        InputError: If there is no such space.
    """
    from pnas_tf.space import spaces

    space = spaces.load(name).scaled(width_mult)
    return space.for_data(image_size or space.input_size, image_channels or space.input_channels,
                          num_classes or space.num_classes)
