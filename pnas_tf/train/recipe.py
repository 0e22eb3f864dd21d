"""The recipe of a training as a value: every setting with its default, bounds and meaning."""

import dataclasses

from pnas_tf.cli.settings import PRECISIONS, ImageSettings, check, setting
from pnas_tf.train.initial_weights import SCRATCH

# Dropout rates with which the authors trained their networks, and the defaults for networks of these spaces.
DROPOUT = {"proxyless_gpu": 0.3, "proxyless_cpu": 0.2, "proxyless_mobile": 0.1, "proxyless_mobile_14": 0.3}


@dataclasses.dataclass(frozen=True)
class Recipe(ImageSettings):
    """Settings of a training. The defaults are the paper's values for ImageNet (section 4.2)."""

    init_weights: str = setting(SCRATCH, "Initial weights: scratch; inherited, the supernet's weights in --run_dir; "
                                "imagenet, a pretrained network's, cut to this arch; or a .keras file of the same arch, or its folder. The classifier is replaced if the "
                                "number of classes differs.")
    epochs: int = setting(300, "Passes over the training images.", low=1)
    batch_size: int = setting(256, "Images per step.", low=1)
    lr: float = setting(0.05, "Learning rate at the start; it falls to 0 as a cosine.", low=0)
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
