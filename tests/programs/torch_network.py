"""Builds the network of a net.config in PyTorch, with random weights, and writes net.pth, images.npy and logits.npy.

    python torch_network.py net.config
"""

import json
import sys
from collections import OrderedDict

import numpy as np
import torch
from torch import nn


def conv_norm(inside, outside, kernel, strides=1, groups=1):
    """Convolution and batch norm, with the names that they have in the original's state dict."""
    return OrderedDict(conv=nn.Conv2d(inside, outside, kernel, strides, kernel // 2, groups=groups, bias=False),
                       bn=nn.BatchNorm2d(outside, eps=1e-3))


def plain(layer):
    """A convolution with batch norm and ReLU6, as the first convolution and the feature mix are."""
    parts = conv_norm(layer["in_channels"], layer["out_channels"], layer["kernel_size"], layer["stride"])
    return nn.Sequential(OrderedDict(**parts, activation=nn.ReLU6()))


class Block(nn.Module):
    """An MBConv with its shortcut."""

    def __init__(self, config):
        super().__init__()
        layer, self.shortcut = config["mobile_inverted_conv"], config["shortcut"] is not None
        if layer["name"] == "ZeroLayer":
            self.mobile_inverted_conv = None
            return
        inside = layer["in_channels"] * layer["expand_ratio"]
        parts = OrderedDict()
        if layer["expand_ratio"] > 1:
            parts["inverted_bottleneck"] = nn.Sequential(
                OrderedDict(**conv_norm(layer["in_channels"], inside, 1), relu=nn.ReLU6()))
        parts["depth_conv"] = nn.Sequential(
            OrderedDict(**conv_norm(inside, inside, layer["kernel_size"], layer["stride"], inside), relu=nn.ReLU6()))
        parts["point_linear"] = nn.Sequential(conv_norm(inside, layer["out_channels"], 1))
        self.mobile_inverted_conv = nn.Sequential(parts)

    def forward(self, x):
        if self.mobile_inverted_conv is None:
            return x
        y = self.mobile_inverted_conv(x)
        return x + y if self.shortcut else y


class Network(nn.Module):
    """The original's class ProxylessNASNets."""

    def __init__(self, config):
        super().__init__()
        self.first_conv = plain(config["first_conv"])
        self.blocks = nn.ModuleList(Block(block) for block in config["blocks"])
        self.feature_mix_layer = plain(config["feature_mix_layer"])
        linear = nn.Linear(config["classifier"]["in_features"], config["classifier"]["out_features"])
        self.classifier = nn.Sequential(OrderedDict(linear=linear))

    def forward(self, x):
        x = self.first_conv(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.feature_mix_layer(x).mean((2, 3)))


def main():
    """Writes the files into the working directory."""
    torch.manual_seed(0)
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    network, size = Network(config), config.get("resolution", 224)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.momentum = 1.0
        network(torch.randn(4, 3, size, size))  # sets the batch norm statistics
        network.eval()
        images = torch.randn(2, 3, size, size)
        np.save("logits.npy", network(images).numpy())
    np.save("images.npy", images.permute(0, 2, 3, 1).numpy())
    torch.save({"state_dict": network.state_dict(), "epoch": 299}, "net.pth")


if __name__ == "__main__":
    main()
