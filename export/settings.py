"""Every setting of an export, with its default, bounds, choices and meaning. Flags are made from these."""

import dataclasses
from collections.abc import Sequence

from export import convert, facts, inputs, interpreter
from pnas_tf.cli.settings import check, setting
from pnas_tf.errors import InputError


def check_modes(modes: Sequence[str]) -> None:
    """Raises InputError if there are no modes, or if a mode is not in `facts.MODES`."""
    unknown = sorted(set(modes) - set(facts.MODES))
    if unknown or not modes:
        raise InputError(f"--mode takes {', '.join(facts.MODES)}, with commas between; got {', '.join(unknown)!r}.")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Settings of an export; `export.tflite` has a flag for each field."""

    mode: tuple[str, ...] = setting(
        ("float32", "float16", "int8"), f"Any of {', '.join(facts.MODES)}, with commas between.")
    input: str = setting(
        "pixels", "Input of the file: pixels 0..255 (pixels); colour pixels 0..255 that the file converts to grey "
        "(rgb, for networks of grey images, because MediaPipe passes colour); or images that the app normalises "
        "(normalised; the metadata holds mean and std, which MediaPipe can use only if all channels share them).",
        choices=inputs.FORMS)
    int8_io: str = setting(
        "uint8", "Type of input and output of the int8 modes: uint8 takes a camera's bytes, and MediaPipe loads it.",
        choices=convert.INT8_IO)
    batch_size: int = setting(1, "Number of images that the file takes at once.", low=1, high=4096)
    check_images: int = setting(2000, "Number of test images on which the file is compared with Keras.", low=1)
    calibration_images: int = setting(200, "Number of training images that set the ranges of int8.", low=1)
    allow_drop: bool = setting(False, "Write a file even if it fails its check; its facts then name the problem.")
    qat_epochs: int = setting(3, "Passes over the training images for int8_qat.", low=1, high=10_000)
    qat_lr: float = setting(0.003, "Initial learning rate for int8_qat; it falls to 0 along a cosine.", low=0)
    qat_batch_size: int = setting(64, "Images per training step for int8_qat.", low=1, high=65536)
    author: str = setting("", "Author, for metadata and model card.")
    license: str = setting("", "Licence of the network, for metadata and model card.")
    threads: int = setting(1, "CPU threads for the timing.", low=1, high=256)
    delegate: str = setting("xnnpack", "Kernels for the timing: XNNPACK's, or the runtime's built-in kernels (none).",
                            choices=interpreter.DELEGATES)
    timing_seconds: float = setting(60.0, "Largest number of seconds for which files are timed again while repeats "
                                    "disagree, as they do on a busy machine.", low=0, high=3600)
    seed: int = setting(0, "Seed of the random images.", low=0, high=2**31 - 1)
    verbose: bool = setting(False, "Show the output of the converter and of the training libraries.")

    def __post_init__(self) -> None:
        check(self)
        check_modes(self.mode)
