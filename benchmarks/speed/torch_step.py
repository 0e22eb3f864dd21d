"""Times training steps in PyTorch. `training_step` and `supernet_step` run it with an interpreter that has PyTorch.

    python benchmarks/speed/torch_step.py TASK.json [--channels_last]

The file describes a network as `training_step.described` does, or a supernet, by the ops of each block and the paths
of the steps. This program needs nothing but PyTorch.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Same(nn.Module):
    """Pads as TensorFlow's SAME does, and then convolves."""

    def __init__(self, channels: int, filters: int, kernel: int, strides: int, groups: int):
        super().__init__()
        self.pad = (kernel - 1) // 2 if strides == 1 else 0
        self.kernel, self.strides = kernel, strides
        self.conv = nn.Conv2d(channels, filters, kernel, strides, self.pad, groups=groups, bias=False)

    def forward(self, x):
        if self.strides == 1:
            return self.conv(x)
        sides = [max((-(-side // self.strides) - 1) * self.strides + self.kernel - side, 0) for side in x.shape[2:]]
        return self.conv(functional.pad(x, [sides[1] // 2, sides[1] - sides[1] // 2,
                                            sides[0] // 2, sides[0] - sides[0] // 2]))


def _layer(node):
    kind = node["kind"]
    if kind == "conv":
        return Same(node["channels"], node["filters"], node["kernel"], node["strides"], node["groups"])
    if kind == "batch_norm":
        return nn.BatchNorm2d(node["channels"], eps=node["epsilon"], momentum=node["rate"])
    if kind == "relu":
        return nn.ReLU6(inplace=True) if node["max_value"] == 6 else nn.ReLU(inplace=True)
    return nn.Linear(node["channels"], node["filters"]) if kind == "dense" else None


class Network(nn.Module):
    """The described network; `pool` and `add` are functions, all else layers."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes
        self.layers = nn.ModuleDict({node["name"]: layer for node in nodes if (layer := _layer(node)) is not None})

    def forward(self, x):
        values = {"input": x}
        for node in self.nodes:
            given = [values[name] for name in node["inputs"]]
            if node["kind"] == "pool":
                y = given[0].mean((2, 3))
            elif node["kind"] == "add":
                y = given[0] + given[1]
            else:
                y = self.layers[node["name"]](given[0])
            values[node["name"]] = y
        return y


class Supernet(nn.Module):
    """Blocks of several ops, of which a path names one each; an op without layers passes its input on."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(Network(nodes) if nodes else nn.Identity() for nodes in ops)
                                    for ops in blocks)

    def forward(self, x, path):
        for ops, index in zip(self.blocks, path, strict=True):
            x = ops[index](x)
        return x


def main() -> None:
    """Entry point: prints a line of JSON with the seconds of each epoch of steps."""
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    net = Supernet(task["blocks"]) if "blocks" in task else Network(task["nodes"])
    images = torch.randn(task["batch_size"], task["channels"], task["image_size"], task["image_size"])
    labels = torch.arange(task["batch_size"]) % task["num_classes"]
    if "--channels_last" in sys.argv:
        net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=4e-5)
    epochs = []
    for _ in range(task["epochs"]):
        begin = time.process_time(), time.perf_counter()
        for path in task.get("paths") or [None] * task["steps"]:
            optimizer.zero_grad(set_to_none=True)  # so the optimizer leaves ops alone that did not run
            logits = net(images) if path is None else net(images, path)
            functional.cross_entropy(logits, labels).backward()
            optimizer.step()
        epochs.append([time.process_time() - begin[0], time.perf_counter() - begin[1]])
    print(json.dumps({"epochs": epochs, "parameters": sum(each.numel() for each in net.parameters()),
                      "version": f"PyTorch {torch.__version__}"}))


if __name__ == "__main__":
    main()
