"""Every setting of a search, with its default, bounds and meaning. Flags and the notebook are made from these."""

import dataclasses
from typing import NamedTuple

from pnas_tf.cli.settings import PRECISIONS, ImageSettings, check, setting
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import Space
from pnas_tf.train.initial_weights import AUTO
from pnas_tf.train.recipe import BATCH, FEW, FROZEN, batch_size_for

# Words for the teacher of a search; anything else is the path of a file.
TEACHERS = ("auto", "none", "largest")
# What is searched one after the other: everything at once; or filters and depth, then ops.
ALL, WIDTHS_THEN_OPS = "all", "widths,ops"


class Lengths(NamedTuple):
    """The length and pace of a search; each field as in `SearchConfig`."""

    batch_size: int
    warmup_epochs: int
    search_epochs: int
    arch_every: int
    warmup_lr: float
    lr: float


# The paper's search on ImageNet, and searches whose ops start as parts of a pretrained network.
FROM_SCRATCH = Lengths(256, 40, 120, 5, 0.05, 0.025)
PRETRAINED = Lengths(256, 3, 3, 1, 0.02, 0.01)
PRETRAINED_FEW = Lengths(32, 12, 8, 1, 0.002, 0.002)


@dataclasses.dataclass(frozen=True)
class Method:
    """Settings of the update of alpha (paper sections 3.2 and 3.3)."""

    latency_loss: str = setting("lagrangian", "Form in which expected latency enters the loss of an architecture step.",
                                choices=("lagrangian", "add_linear", "mul_log", "none"))
    latency_strength: float = setting(0.1, "Weight of the latency term of add_linear.", low=0)
    arch_update: str = setting("gradient", "Update of alpha: by gradients or by REINFORCE.",
                             choices=("gradient", "reinforce"))
    paths: str = setting("two", "Ops observed in a gradient step.", choices=("two", "all"))
    active_draw: str = setting("even", "Active op of a sampled pair: drawn evenly, or by the softmax of their alphas.",
                               choices=("even", "softmax"))
    expected_latency: str = setting("full", "Expected latency in the loss: over all ops, or over the "
                                    "sampled pairs only.", choices=("full", "pair"))
    reward: str = setting("abs", "Reward that reinforce maximises.", choices=("paper", "mnas", "abs"))
    reinforce_samples: int = setting(10, "Networks sampled for an update of reinforce.", low=1)
    alpha_lr: float = setting(0.0, "Learning rate of alpha; 0: scaled to the number of steps.", low=0)
    use_all_ms: bool = setting(False, "Delivers the network that scores best, even if a quicker one is as good, "
                               "within the error.")

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True)
class SearchConfig(ImageSettings, Method):
    """Every setting of a search: space, images, device, method and length."""

    space: str = setting("quickstart", "Name of a search space, or path of a JSON file.")
    width_mult: float = setting(1.0, "Factor of all widths of the space.", low=0.05, high=20)
    dataset: str = setting("fashion_mnist_small",
                           "fashion_mnist_small, fashion_mnist, cifar10, npz:PATH, folder:PATH or tfds:NAME.")
    data_dir: str | None = setting(None, "Folder of the data set's files.")
    background: str = setting("white", "Colour behind transparent parts of image files, such as white or #ff8000.")
    image_size: int = setting(0, "Height and width of the images; 0: the space's own or, with a pretrained network, "
                              "the size in the table that suits the target.", low=0, high=8192)
    image_sizes: tuple[str, ...] = setting((), "Several sizes of images, such as 224,192,160: each is searched in "
                                           "turn after one warm-up, and the best network of all is delivered.")
    held_out_size: int = setting(0, "Training images held out for alpha; 0: depends on the size of the data set.",
                                 low=0)
    table: str | None = setting(None, "Latency table: a file, or the name of a shipped table.")
    target_ms: float = setting(0.0, "Target in milliseconds, which the predicted ones never exceed; 0: 0.75 times "
                               "those of the slowest network without slow ops.", low=0)
    targets: tuple[str, ...] = setting(
        (), "Several targets at once, in place of --table and --target_ms: TABLE:MS,TABLE:MS,... One supernet is "
        "trained, and each target gets a network.")
    limit: tuple[str, ...] = setting(
        (), "A further limit, never exceeded: params<=3e6, macs<=3e8, size_bytes<=4e6 (of the .tflite) or "
        "peak_activation_bytes<=5e5, or sram_bytes<=5e5 on a table of --measurer=vela (only in latency.search); may be "
        "repeated.", repeated=True)
    stages: str = setting(ALL, "all: everything at once. widths,ops: filters and depth with one op in every block, "
                          "then the ops within the filters found.", choices=(ALL, WIDTHS_THEN_OPS))
    init_weights: str = setting("", "Initial weights: the folder of an earlier search, or a .keras file of a trained "
                                "or imported network; ops that it lacks start from scratch.")
    share: str = setting("auto", "What the ops of a block share: none, or kernels (slices of one set of weights). "
                         "auto: kernels if the space has a pretrained network.",
                         choices=("auto", "none", "kernels"))
    teacher: str = setting("auto", "Network to learn from: none; largest, that of the space, trained first; or a "
                           ".keras file. auto: largest if the space has a pretrained network.")
    pretrained_parts: str = setting(
        AUTO, "Parts of which networks around a pretrained one are made: ops, its blocks also with smaller kernels "
        "and fewer channels; or blocks, each whole or left out. auto: blocks on fewer than 10,000 images.",
        choices=(AUTO, "ops", "blocks"))
    batch_norm: str = setting(AUTO, "Batch norm in the supernet: by each batch, or frozen, by the statistics of the "
                              "initial weights. auto: frozen around a pretrained network on fewer than 10,000 images.",
                              choices=(AUTO, BATCH, FROZEN))
    teacher_epochs: int = setting(0, "Epochs of the teacher's training; 0: scaled to the number of images.", low=0)
    distill: float = setting(0.5, "Weight of the teacher in the loss; the rest is the labels'.", low=0, high=1)
    temperature: float = setting(2.0, "Temperature of the teacher's logits.", low=0.1, high=100)
    batch_size: int = setting(0, "Images per step, over all replicas; 0: 256, or fewer on few images.", low=0)
    warmup_epochs: int | None = setting(None, "Epochs before alpha learns; default: 40, if pretrained 3 to 12.", low=0)
    search_epochs: int = setting(0, "Epochs with architecture steps; 0: 120, if pretrained 3 to 8.", low=0)
    arch_every: int = setting(0, "Weight steps for each architecture step; 0: 5, if pretrained 1.", low=0)
    warmup_lr: float = setting(0.0, "Learning rate of the warm-up; 0: 0.05, if pretrained 0.02 or 0.002.", low=0)
    lr: float = setting(0.0, "Learning rate of the search; 0: 0.025, if pretrained 0.01 or 0.002.", low=0)
    label_smoothing: float = setting(0.1, "Label smoothing of weight steps.", low=0, high=1)
    weight_decay: float = setting(4e-5, "Decay of the weights; none with frozen batch norm.", low=0)
    memory: str = setting("keep", "Activations for gradients: kept, or computed again (less memory, more time).",
                          choices=("keep", "recompute"))
    jit_compile: bool = setting(False, "Steps are compiled by XLA, for GPUs and TPUs: with --memory=recompute, on one "
                                "device. On a CPU they take many times as long.")
    precision: str = setting("float32", "Number format of the ops' computations; weights, gates and alpha are float32.",
                             choices=PRECISIONS)
    strategy: str = setting("none", "Devices: one, several of this machine, or several machines listed in TF_CONFIG.",
                            choices=("none", "mirrored", "multi_worker"))
    replicas: int = setting(0, "mirrored: number of devices; 0: every GPU.", low=0, high=64)
    bn_recalibration_batches: int = setting(20, "Training batches that set the batch norm statistics of the "
                                            "delivered network; 0: statistics of the search.", low=0)
    front: int = setting(8, "Budgets up to the target that get a network each.", low=1, high=64)
    trials: int = setting(0, "Finalists that are trained for a few epochs, as pnas_tf.train would, before one is "
                          "delivered; 0: none.", low=0, high=64)
    trial_epochs: int = setting(5, "Epochs of each trial.", low=1)
    max_steps: int = setting(0, "Limit on all weight steps, for a trial run; 0: no limit.", low=0)
    seed: int = setting(0, "Seed of initial weights, data order and sampled paths.", low=0, high=2**31 - 1)
    checkpoint_minutes: float = setting(10.0, "Largest number of minutes between checkpoints; 0: only at the end of "
                                        "epochs.", low=0)

    def __post_init__(self):
        check(self)
        if self.jit_compile and (self.memory != "recompute" or self.strategy != "none"):
            raise InputError("--jit_compile needs --memory=recompute, whose steps have shapes that XLA knows, and one "
                             f"device; got --memory={self.memory} --strategy={self.strategy}.")

    def lengths(self, space: Space, images: int) -> "Lengths":
        """The length of the search: as set or, where nothing is set, by the space and the number of images.

        Args:
            space: Space to search.
            images: Number of training images.
        """
        few = images < FEW
        default = PRETRAINED_FEW if space.pretrained and few else PRETRAINED if space.pretrained else FROM_SCRATCH
        return Lengths(min(images, self.batch_size or batch_size_for(images)),
                       default.warmup_epochs if self.warmup_epochs is None else self.warmup_epochs,
                       *(getattr(self, name) or getattr(default, name) for name in Lengths._fields[2:]))

    def takes_whole_blocks(self, space: Space, images: int) -> bool:
        """Whether networks of this space, for so many training images, are made of whole pretrained blocks."""
        few = self.pretrained_parts == AUTO and images < FEW
        return bool(space.pretrained) and (few or self.pretrained_parts == "blocks")

    def freezes(self, space: Space, images: int) -> bool:
        """Whether batch norm is frozen in this space, for so many training images."""
        few = self.batch_norm == AUTO and bool(space.pretrained) and images < FEW
        return few or self.batch_norm == FROZEN

    def shared_by(self, space: Space) -> str:
        """What the ops of a block share in this space: `none` or `kernels`."""
        return self.share if self.share != "auto" else "kernels" if space.pretrained else "none"

    def teacher_of(self, space: Space) -> str:
        """The teacher of this space: `none`, `largest`, or the path of a .keras file."""
        return self.teacher if self.teacher != "auto" else "largest" if space.pretrained else "none"
