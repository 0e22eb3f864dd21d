"""Writes the published networks into pnas_tf/archs.

    python scripts/make_archs.py

The four networks of the paper follow the authors' net.config files (han-cai/files, folder proxylessnas), MobileNetV2
follows Sandler et al. 2018, table 2, EfficientNet-Lite its authors' code (tensorflow/tpu,
models/official/efficientnet/lite), MnasNet-B1 Tan et al. 2019, and MobileNetV4 its authors' code (tensorflow/models,
official/vision/modeling/backbones/mobilenet.py). Ops are indices into the candidate order of the paper's space.
"""

import dataclasses
import math
import os

from pnas_tf.space import arch, ops, spaces
from pnas_tf.space.blocks import Block, Space, make_divisible

FOLDER = os.path.join(os.path.dirname(__file__), "..", "pnas_tf", "archs")
ORDER = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", "mb_k7_e3", "mb_k7_e6", ops.ZERO)
MOBILE = (2, 0, 6, 6, 4, 0, 2, 2, 5, 2, 2, 2, 3, 2, 2, 2, 5, 5, 4, 4, 5)

# By name: filters of the stem, of the first block, of the stages and of the feature mix; ops.
PUBLISHED = {
    "proxyless_mobile": (32, 16, (32, 40, 80, 96, 192, 320), 1280, MOBILE),
    "proxyless_mobile_14": (48, 24, (40, 56, 112, 136, 256, 448), 1792, MOBILE),
    "proxyless_cpu": (40, 24, (32, 48, 88, 104, 216, 360), 1432,
                      (1, 0, 0, 0, 1, 0, 0, 2, 1, 6, 6, 0, 3, 0, 0, 0, 3, 2, 2, 0, 3)),
    "proxyless_gpu": (40, 24, (32, 56, 112, 128, 256, 432), 1728,
                      (2, 6, 6, 6, 4, 6, 6, 0, 5, 6, 6, 2, 3, 6, 0, 2, 5, 5, 5, 3, 5)),
}

# Width, depth and image size of EfficientNet-Lite, by its number.
LITE = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))

# Sizes of the start and the middle depthwise and expansion of the universal inverted bottlenecks of MobileNetV4-Conv-S,
# in order; those of Conv-M by their filters. The first block of each width strides.
CONV_SMALL = ((5, 5, 3), *((0, 3, 2),) * 4, (3, 0, 4), (3, 3, 6), (5, 5, 4), (0, 5, 4), (0, 5, 3), (0, 3, 4), (0, 3, 4))
CONV_MEDIUM = {80: ((3, 5, 4), (3, 3, 2)),
               160: ((3, 5, 6), (3, 3, 4), (3, 3, 4), (3, 5, 4), (3, 3, 4), (3, 0, 4), (0, 0, 2), (3, 0, 4)),
               256: ((5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 4), (3, 0, 4), (3, 5, 2), (5, 5, 4), (0, 0, 4),
                     (0, 0, 4), (5, 0, 2))}
# Filters, blocks, stride, kernel and expansion of MnasNet-B1's stages.
MNASNET_B1 = ((24, 3, 2, 3, 3), (40, 3, 2, 5, 3), (80, 3, 2, 5, 6), (96, 2, 1, 3, 6), (192, 4, 2, 5, 6),
              (320, 1, 1, 3, 6))


def published(name: str) -> arch.Arch:
    """A network of the paper, by its name in `PUBLISHED`."""
    stem, first, widths, mix, indices = PUBLISHED[name]
    net = spaces.mb_space(
        name, input_size=224, num_classes=1000, stem=Block("stem", ("conv_k3",), stem, 2),
        first=Block("b00", ("mb_k3_e1",), first),
        stages=[spaces.Stage(*stage) for stage in zip(widths, (4, 4, 4, 4, 4, 1), (2, 2, 2, 1, 2, 1), strict=True)],
        mix=mix)
    return arch.Arch(net, {choice: ORDER[index] for choice, index in zip(net.choices, indices, strict=True)})


def mobilenet_v2() -> arch.Arch:
    """MobileNetV2 at width 1, with the normalisation of Keras' weights."""
    stages = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
    net = spaces.mb_space(
        "mobilenet_v2", input_size=224, num_classes=1000, stem=Block("stem", ("conv_k3",), 32, 2),
        first=Block("b00", ("mb_k3_e1",), 16), stages=[spaces.Stage(*stage, ops=("mb_k3_e6",)) for stage in stages],
        mix=1280)
    return arch.Arch(dataclasses.replace(net, normalisation=(127.5, 127.5)), {})


def efficientnet_lite(number: int) -> arch.Arch:
    """EfficientNet-Lite 0 to 4. The stem, the head and the depth of the first and the last stage are not scaled."""
    width, depth, size = LITE[number]
    stages = [spaces.Stage(make_divisible(filters * width),
                           count if filters == spaces.LITE0[-1][0] else math.ceil(count * depth),
                           strides, (f"mb_k{kernel}_e6",)) for filters, count, strides, kernel in spaces.LITE0]
    net = spaces.mb_space(
        f"efficientnet_lite{number}", input_size=size, num_classes=1000, stem=Block("stem", ("conv_k3",), 32, 2),
        first=Block("b00", ("mb_k3_e1",), make_divisible(16 * width)), stages=stages, mix=1280)
    pretrained = net.name if number == 0 else None
    return arch.Arch(dataclasses.replace(net, normalisation=(127, 128), pretrained=pretrained), {})


def mnasnet_b1() -> arch.Arch:
    """MnasNet-B1, the one without squeeze-and-excite. An MBConv with ReLU is a bottleneck without start depthwise."""
    stages = [spaces.Stage(filters, count, strides, (f"uib_s0_m{kernel}_e{e}",))
              for filters, count, strides, kernel, e in MNASNET_B1]
    return arch.Arch(Space(
        "mnasnet_b1", 224, 3, 1000, stem=(Block("stem", ("convrelu_k3",), 32, 2),),
        blocks=spaces.chain([Block("b00", ("dsrelu_k3",), 16)], stages),
        head=(Block("mix", ("convrelu_k1",), 1280), Block("classifier", ("classifier",), 1000))), {})


def mobilenet_v4_conv_small() -> arch.Arch:
    """MobileNetV4-Conv-S."""
    space = dataclasses.replace(spaces.SPACES["mobile_2024"], name="mobilenet_v4_conv_small")
    return arch.Arch(space, dict(zip(space.choices, map(_uib, CONV_SMALL), strict=True)))


def mobilenet_v4_conv_medium() -> arch.Arch:
    """MobileNetV4-Conv-M, for images of 256 pixels as in its paper."""
    stages = [spaces.Stage(filters, 1, 1 if number else 2, (_uib(sizes),))
              for filters, stage in CONV_MEDIUM.items() for number, sizes in enumerate(stage)]
    return arch.Arch(Space(
        "mobilenet_v4_conv_medium", 256, 3, 1000, stem=(Block("stem", ("convrelu_k3",), 32, 2),),
        blocks=spaces.chain([Block("b00", ("fusedrelu_k3_e4",), 48, 2)], stages),
        head=spaces.SPACES["mobile_2024"].head), {})


def _uib(sizes: tuple[int, int, int]) -> str:
    start, middle, e = sizes
    return f"uib_s{start}_m{middle}_e{e}"


if __name__ == "__main__":
    for network in (*map(published, PUBLISHED), mobilenet_v2(), *map(efficientnet_lite, range(len(LITE))), mnasnet_b1(),
                    mobilenet_v4_conv_small(), mobilenet_v4_conv_medium()):
        network.save(os.path.join(FOLDER, network.space.name + ".json"))
        print(network.space.name)
