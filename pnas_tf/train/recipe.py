"""The recipe of a training as a value: every setting with its default, bounds and meaning."""

import dataclasses
import os
from collections.abc import Sequence

from pnas_tf.cli.settings import PRECISIONS, ImageSettings, check, setting
from pnas_tf.data.pictures import CROP_AREA
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import whole_blocks
from pnas_tf.space.arch import Arch
from pnas_tf.train.initial_weights import AUTO, ENDING, IMAGENET, INHERITED, SCRATCH, TEACHER

NONE = "none"
# Batch norm by the statistics of each batch, or by those of the initial weights.
BATCH, FROZEN = "batch", "frozen"
SGD, ADAMW = "sgd", "adamw"
ADAMW_LR = 0.0005
# Fewer images than these cannot change all of a pretrained network.
FEW = 10_000
# Weight of the distance from a teacher's features, and the least batch that tells how they vary.
HINTS, LEAST_BATCH = 4.0, 8
# Epochs with a teacher on few images: with its features by AdamW and SGD, and with batch norm by each batch.
HINTED_EPOCHS, HINTED_SGD_EPOCHS, TAUGHT_EPOCHS = 24, 64, 48
# The images of so many epochs are kept with what the teacher says of them, if they fit into so many bytes. Then they
# repeat.
KEPT_EPOCHS, KEPT_BYTES = 12, 2**30
# Crops of images from which few images are learned: objects stay whole.
LARGE_CROPS = 0.35

# Dropout rates with which the authors trained their networks, and the defaults for networks of these spaces.
DROPOUT = {"proxyless_gpu": 0.3, "proxyless_cpu": 0.2, "proxyless_mobile": 0.1, "proxyless_mobile_14": 0.3}


@dataclasses.dataclass(frozen=True)
class Recipe(ImageSettings):
    """Settings of a training. From scratch on many images, the defaults are the paper's for ImageNet (section 4.2)."""

    init_weights: str = setting(AUTO, "Initial weights: scratch; inherited, the supernet's weights in --run_dir; "
                                "imagenet, the parts that this arch uses of the pretrained network of its space; "
                                "teacher, the blocks that it uses of --teacher, joined by linear maps where blocks "
                                "are left out; or a .keras file of the same arch, or its folder. The classifier is "
                                "replaced if the number of classes differs. auto: scratch or, where the space has a "
                                "pretrained network, imagenet, and after a search teacher or, if blocks were cut or "
                                "images are many, inherited.")
    epochs: int = setting(0, "Passes over the training images; 0: 300 from scratch, fewer from trained weights and on "
                          "few images.", low=0)
    batch_size: int = setting(0, "Images per step; 0: 256, or fewer on few images.", low=0)
    lr: float = setting(0.0, "Learning rate at the start, which falls to 0 as a cosine; 0: 0.05 from scratch, 0.02 "
                        "from trained weights, 0.002 with frozen batch norm; 0.0005 with AdamW.", low=0)
    optimizer: str = setting(AUTO, "Optimizer: sgd, with Nesterov momentum, or adamw. auto: adamw with frozen batch "
                             "norm, else sgd.", choices=(AUTO, SGD, ADAMW))
    batch_norm: str = setting(AUTO, "Batch norm in training: by each batch, or frozen, by the statistics of the "
                              "initial weights. auto: frozen from a trained network, or parts of it, on fewer than "
                              "10,000 images.", choices=(AUTO, BATCH, FROZEN))
    momentum: float = setting(0.9, "Nesterov momentum of SGD.", low=0, high=0.999)
    weight_decay: float = setting(4e-5, "Decay of convolution and dense weights.", low=0)
    label_smoothing: float = setting(0.1, "Label smoothing of the training loss.", low=0, high=1)
    dropout: float | None = setting(
        None, "Dropout before the classifier; default: the authors' rate for their networks ("
        + ", ".join(f"{name} {rate}" for name, rate in DROPOUT.items()) + "), 0 for others.", low=0, high=0.9)
    drop_path: float = setting(0.0, "Rate at which the last residual branch is left out, image by image; earlier "
                               "branches have lower rates, in proportion to depth.", low=0, high=0.9)
    precision: str = setting("float32", "Number format of the layers' computations; weights are always float32.",
                             choices=PRECISIONS)
    colour_jitter: str = setting("normal", "Random changes of colour in data sets of image files: normal as in the "
                                 "search, strong as in the authors' training.",
                                 choices=("none", "normal", "strong"))
    teacher: str = setting(AUTO, "Network to learn from: none, or a .keras file; auto: the teacher of the search, if "
                           "it had one.")
    distill: float = setting(0.5, "Weight of the teacher's answers in the loss; the rest is the labels'.", low=0,
                             high=1)
    temperature: float = setting(2.0, "Temperature of the teacher's logits.", low=0.1, high=100)
    distill_features: float | None = setting(
        None, "Weight of the distance between the features that this network's classifier reads and those of the "
        "teacher's; both must read as many. Default: 4 with frozen batch norm and the whole pretrained network, as the "
        "search has trained it, as teacher; else 0.", low=0, high=1000)
    ema: float = setting(0.0, "Decay of the moving average of the weights that is validated and saved; 0: the weights "
                         "themselves. The average covers about 1 / (1 - ema) steps: a training needs many times as "
                         "many.", low=0, high=0.99999)
    mixup: float = setting(0.0, "Mixup: alpha of the Beta distribution that weights an image against another of its "
                           "batch, 0.2 for instance; 0: none.", low=0, high=100)
    cutmix: float = setting(0.0, "Cutmix: alpha of the Beta distribution of the share of an image that another of its "
                            "batch covers, 1 for instance; 0: none. With mixup, either changes half of the batches.",
                            low=0, high=100)
    randaugment: float = setting(0.0, "RandAugment: magnitude of two random changes of each image, from 0 (none) to 1.",
                                 low=0, high=1)
    seed: int = setting(0, "Seed of weights and data order.", low=0, high=2**31 - 1)
    max_steps: int = setting(0, "Limit on the total number of steps, for a trial run; 0: no limit.", low=0)

    def __post_init__(self):
        check(self)

    def dropout_of(self, space_name: str) -> float:
        """The dropout rate for a network of a space."""
        return DROPOUT.get(space_name, 0.0) if self.dropout is None else self.dropout

    def settled(self, arch: Arch, images: int, folder: RunFolder) -> "Recipe":
        """The same recipe with every default that depends on the task.

        Args:
            arch: Network to train.
            images: Number of training images.
            folder: Run folder; the search that made it may have left weights and a teacher.
        """
        kept = folder.teacher_model
        teacher = (kept or NONE) if self.teacher == AUTO else self.teacher
        taught_in = RunFolder(os.path.dirname(kept))
        # A network of the user's has features of another meaning, and a copy of it lies in a folder without facts.
        is_own = self.teacher == AUTO and kept != "" and os.path.exists(taught_in.training_facts)
        init = self.init_weights
        if init == AUTO:
            has_inherited = kept != "" and os.path.exists(folder.inherited_weights)
            whole = taught_in.arch if is_own and images < FEW and self.batch_norm != BATCH else ""
            init = _first_weights(arch, whole, has_inherited)
        is_pretrained = init != SCRATCH and (init != INHERITED or arch.space.pretrained is not None)
        if self.batch_norm == FROZEN and init == SCRATCH:
            raise InputError("--batch_norm=frozen needs trained weights: blocks with a shortcut start at a scale of 0, "
                             "and would stay there. Give other --init_weights or --batch_norm=batch.")
        how = self.batch_norm if self.batch_norm != AUTO else FROZEN if images < FEW and is_pretrained else BATCH
        batch_size = min(images, self.batch_size or batch_size_for(images))
        hints = self.distill_features
        if hints is None:
            hints = HINTS if is_own and how == FROZEN and batch_size >= LEAST_BATCH else 0.0
        optimizer = self.optimizer if self.optimizer != AUTO else ADAMW if how == FROZEN else SGD
        hinted = HINTED_EPOCHS if optimizer == ADAMW else HINTED_SGD_EPOCHS
        taught = 0 if teacher == NONE else hinted if hints else TAUGHT_EPOCHS if how == BATCH else 0
        rate = ADAMW_LR if optimizer == ADAMW else 0.05 if init == SCRATCH else 0.002 if how == FROZEN else 0.02
        return dataclasses.replace(
            self, init_weights=init, teacher=teacher, batch_norm=how, distill_features=hints,
            crop_area=self.crop_area or crop_area_for(images, init != SCRATCH),
            epochs=self.epochs or epochs_for(images, init == SCRATCH, taught), batch_size=batch_size,
            optimizer=optimizer, lr=self.lr or rate)


def _first_weights(arch: Arch, whole: str, has_inherited: bool) -> str:
    """Where the weights of a network come from by default.

    Args:
        arch: Network to train.
        whole: Path of the arch of a teacher from which they come if it has all blocks; "" for no such teacher.
        has_inherited: Whether a search with a teacher has left the supernet's weights.
    """
    if not arch.space.pretrained:
        # Weights of a supernet that started from scratch are no better a start than scratch (paper section 4.2).
        return SCRATCH
    if os.path.exists(whole) and whole_blocks.are_all_of(arch, arch_lib.load(whole)):
        return TEACHER
    return INHERITED if has_inherited else IMAGENET


def kept_steps(values: int, num_features: int, batch_size: int, steps_per_epoch: int) -> int:
    """Number of batches that are kept in memory, those of `KEPT_EPOCHS`; 0 if they do not fit.

    Args:
        values: Values of an image, of two bytes each.
        num_features: Features of the teacher that are kept, of four bytes each.
        batch_size: Images per batch.
        steps_per_epoch: Batches per epoch.
    """
    steps = KEPT_EPOCHS * steps_per_epoch
    return steps if (2 * values + 4 * num_features) * batch_size * steps <= KEPT_BYTES else 0


def check_teacher_flag(teacher: str, words: Sequence[str]) -> None:
    """Raises InputError if a --teacher is neither one of some words nor a .keras file that exists."""
    if teacher not in words and not (teacher.endswith(ENDING) and os.path.isfile(teacher)):
        raise InputError(f"--teacher must be {', '.join(words)} or a {ENDING} file that exists, got {teacher[:200]!r}.")


def batch_size_for(images: int) -> int:
    """Images per step for so many training images: about 16 steps an epoch, 32 to 256 images."""
    return next((size for size in (32, 64, 128) if images < 16 * 2 * size), 256)


def crop_area_for(images: int, is_pretrained: bool) -> float:
    """Smallest share of an image's area that a random crop covers, for so many training images."""
    return LARGE_CROPS if is_pretrained and images < FEW else CROP_AREA


def epochs_for(images: int, from_scratch: bool, taught: int = 0) -> int:
    """Epochs for so many training images: the paper's 300 from scratch, and no more than a few hours on few images.

    Args:
        images: Number of training images.
        from_scratch: Whether the weights are random at the start.
        taught: Largest number of epochs with a teacher: on few images it has more to say than the labels, and a student
            goes on learning for longer; 0 for no teacher.
    """
    if from_scratch:
        return 100 if images < FEW else 300
    if taught and images < FEW:
        return max(16, min(taught, 40_000 // images))
    return 16 if images < FEW else 8
