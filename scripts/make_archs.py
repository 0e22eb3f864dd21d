"""Writes the published networks into pnas_tf/archs.

    python scripts/make_archs.py

The four networks of the paper follow the authors' net.config files (han-cai/files, folder proxylessnas), and
MobileNetV2 follows Sandler et al. 2018, table 2. Ops are indices into the candidate order of the paper's space.
"""

import os

from pnas_tf.space import arch, ops, spaces
from pnas_tf.space.blocks import Block, Space

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
    """MobileNetV2 at width 1."""
    blocks, channels = [Block("b00", ("mb_k3_e1",), 16)], 16
    for width, count, stride in ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)):
        for cell in range(count):
            step = stride if cell == 0 else 1
            blocks.append(Block(f"b{len(blocks):02d}", ("mb_k3_e6",), width, step, step == 1 and channels == width))
            channels = width
    net = Space("mobilenet_v2", 224, 3, 1000, (Block("stem", ("conv_k3",), 32, 2),), tuple(blocks),
                (Block("mix", ("conv_k1",), 1280), Block("classifier", ("classifier",), 1000)))
    return arch.Arch(net, {})


if __name__ == "__main__":
    for network in (*map(published, PUBLISHED), mobilenet_v2()):
        network.save(os.path.join(FOLDER, network.space.name + ".json"))
        print(network.space.name)
