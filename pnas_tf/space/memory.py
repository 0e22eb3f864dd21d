"""The memory that networks need, counted from shapes before anything is built, and refused if the machine has less.

The counts are from below: libraries need more than this. They tell networks that a phone could hold from files that
would fill the memory of a server.
"""

import dataclasses
from collections.abc import Iterable

from pnas_tf.errors import InputError
from pnas_tf.machine import memory_bytes
from pnas_tf.space import ops, shape_layers
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space

# Copies of each weight: in training weights, gradients and momenta; in an export weights, constants and the file.
COPIES = 3
BYTES = 4  # of a weight and of an activation, float32
# Bytes of a layer's objects and its place in the graph: 90,000 to 240,000 in a network of 900 layers, built and traced.
LAYER_BYTES = 150_000
# Layers take time, too: about 20 ms each to build and trace. `cifar_tree` has 3,290 in a network, 12,362 in all.
MAX_LAYERS, MAX_SUPERNET_LAYERS = 10_000, 40_000


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a network needs.

    Attributes:
        weights: Bytes of all copies of the weights.
        activations: Bytes of activations.
        count: Number of layers.
    """

    weights: int
    activations: int
    count: int

    @property
    def layers(self) -> int:
        """Bytes of the layers' objects."""
        return LAYER_BYTES * self.count

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.layers + self.activations


def check_network(arch: Arch, images: int = 0) -> None:
    """Checks that one network fits in the memory of this machine.

    Args:
        arch: Network at the size of its images.
        images: Images of a training step; 0 if the network is not trained.

    Raises:
        InputError: If it needs more.
    """
    keys = [key for _, key in arch.op_keys()]
    check(of_ops(keys, images * sum(_count(key).kept for key in keys)), f"The network of {arch.space.name}", arch.space)


def check_space(space: Space, images: int = 0, *, recompute: bool = False) -> None:
    """Checks that the supernet of a space, which has the weights of all ops, fits in the memory of this machine.

    Args:
        space: Space at the size of its images.
        images: Images of a step, which runs one op of each choice; 0 if it is not known yet.
        recompute: Whether a step keeps the activations of one op at a time.

    Raises:
        InputError: If it needs more.
    """
    kept = 0
    for block in space.all_blocks:
        each = [0 if key.is_free else _count(key).kept for key in (space.op_key(block, op) for op in block.ops)]
        kept += sum(each) // len(each)
    # At smaller widths an op has layers of its own and a slice of the weights.
    largest = [key for block in space.all_blocks for key in (space.op_key(block, op) for op in block.ops)
               if not key.is_free]
    need = of_ops(largest, images * (0 if recompute else kept), images)
    need = dataclasses.replace(need, count=sum(_count(key).layers for _, key in space.op_keys()))
    check(need, f"The supernet of {space.name}", space, MAX_SUPERNET_LAYERS)


def check_ops(space: Space, keys: Iterable[OpKey]) -> None:
    """Checks that each of some ops, built alone, fits in the memory of this machine.

    Raises:
        InputError: If one of them needs more.
    """
    for key in keys:
        check(of_ops([key]), f"The op {key}", space)


def check_op(key: OpKey) -> None:
    """Checks a single op; see `check_ops`."""
    check(of_ops([key]), f"The op {key}")


def of_ops(keys: Iterable[OpKey], kept: int = 0, images: int = 1) -> Need:
    """Bytes that some ops need, if they run one after the other.

    Args:
        keys: Ops with their shapes.
        kept: Activations that a step keeps for its backward pass.
        images: Images that pass through an op at a time.
    """
    counts = [_count(key) for key in keys if key.op != ops.ZERO]
    peak = max((count.peak for count in counts), default=0)
    return Need(BYTES * sum(COPIES * count.params + count.statistics for count in counts),
                BYTES * max(kept, peak * max(1, images)), sum(count.layers for count in counts))


def _count(key: OpKey) -> shape_layers.ShapeLayers:
    """Counts of an op; of a user's own op those of its input and output alone."""
    counts = shape_layers.count(key)
    if counts is None:
        counts = shape_layers.ShapeLayers()
        height, width, channels = key.input
        counts.peak = height * width * channels + -(-height // key.strides) * -(-width // key.strides) * key.filters
    return counts


def check(need: Need, what: str, space: Space | None = None, max_layers: int = MAX_LAYERS) -> None:
    """Checks that this machine has the memory for a network.

    Args:
        need: Bytes and layers of the network.
        what: Name of the network, the subject of the error.
        space: Space that gives the size of the images, or None.
        max_layers: Largest number of layers.

    Raises:
        InputError: If the network needs more memory, or has more layers.
    """
    have = memory_bytes()
    if need.count > max_layers:
        raise InputError(f"{what} has {need.count:,} layers, more than {max_layers:,}, which take too long to build. "
                         "Take fewer blocks or ops.")
    if need.total > have:
        parts = ", ".join(f"{_size(getattr(need, name))} of {name}" for name in ("weights", "layers", "activations")
                          if getattr(need, name) > have / 100)
        size = f" at {space.input_size} x {space.input_size} pixels" if space else ""
        raise InputError(f"{what}{size} needs {_size(need.total)} of memory or more ({parts}), and there are "
                         f"{_size(have)} here. Take fewer filters or blocks, smaller images (--image_size) or, in a "
                         "training, smaller batches (--batch_size).")


def _size(value: int) -> str:
    return f"{value / 1e9:,.1f} GB" if value >= 1e8 else f"{value / 1e6:,.1f} MB"
