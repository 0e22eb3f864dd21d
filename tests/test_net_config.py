"""net.config: the original's description of a network, both ways."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf import net_config
from pnas_tf.errors import InputError
from pnas_tf.space import arch

ROOT = Path(__file__).parent.parent
PUBLISHED = ("proxyless_cpu", "proxyless_gpu", "proxyless_mobile", "proxyless_mobile_14")

# Excerpts of what the authors published for proxyless_mobile: every key, in their order.
FIRST_CONV = {
    "name": "ConvLayer", "kernel_size": 3, "stride": 2, "dilation": 1, "groups": 1, "bias": False,
    "has_shuffle": False, "in_channels": 3, "out_channels": 32, "use_bn": True, "act_func": "relu6",
    "dropout_rate": 0, "ops_order": "weight_bn_act"}
CLASSIFIER = {"name": "LinearLayer", "in_features": 1280, "out_features": 1000, "bias": True, "use_bn": False,
              "act_func": None, "dropout_rate": 0, "ops_order": "weight_bn_act"}
SECOND_BLOCK = {
    "name": "MobileInvertedResidualBlock",
    "mobile_inverted_conv": {"name": "MBInvertedConvLayer", "in_channels": 16, "out_channels": 32, "kernel_size": 5,
                             "stride": 2, "expand_ratio": 3},
    "shortcut": None}
THIRD_BLOCK = {
    "name": "MobileInvertedResidualBlock",
    "mobile_inverted_conv": {"name": "MBInvertedConvLayer", "in_channels": 32, "out_channels": 32, "kernel_size": 3,
                             "stride": 1, "expand_ratio": 3},
    "shortcut": {"name": "IdentityLayer", "in_channels": 32, "out_channels": 32, "use_bn": False, "act_func": None,
                 "dropout_rate": 0, "ops_order": "weight_bn_act"}}
SKIPPED_BLOCK = {"name": "MobileInvertedResidualBlock", "mobile_inverted_conv": {"name": "ZeroLayer", "stride": 1},
                 "shortcut": THIRD_BLOCK["shortcut"]}


def same_text(written, expected):
    """Equal, including the order of keys, which a diff against the authors' file shows."""
    assert json.dumps(written) == json.dumps(expected)


def test_written_as_the_authors_wrote_it():
    written = net_config.write(arch.load("proxyless_mobile"))
    assert list(written) == ["name", "bn", "first_conv", "feature_mix_layer", "classifier", "blocks"]
    assert written["name"] == "ProxylessNASNets" and len(written["blocks"]) == 22
    same_text(written["bn"], {"momentum": 0.1, "eps": 0.001})
    same_text(written["first_conv"], FIRST_CONV)
    same_text(written["feature_mix_layer"],
              FIRST_CONV | {"kernel_size": 1, "stride": 1, "in_channels": 320, "out_channels": 1280})
    same_text(written["classifier"], CLASSIFIER)
    same_text(written["blocks"][1:3], [SECOND_BLOCK, THIRD_BLOCK])
    assert SKIPPED_BLOCK in written["blocks"]


def test_a_network_of_tree_cells_has_no_net_config():
    with pytest.raises(InputError, match=r"proxyless_cifar has blocks that read blocks other .* Keep the arch\.json"):
        net_config.write(arch.load("proxyless_cifar"))


@pytest.mark.parametrize("name, reason", [
    ("mobilenet_v4_conv_small", "ends in mlpclassifier_h1280"),
    ("mnasnet_b1", "stem must be a convolution with ReLU6")])
def test_a_network_of_other_ops_has_no_net_config(name, reason):
    with pytest.raises(InputError, match=rf"{reason}.* Keep the arch\.json"):
        net_config.write(arch.load(name))


OF_MBCONVS = ("efficientnet_lite", "mobilenet_v2", "proxyless_cpu", "proxyless_gpu", "proxyless_mobile")


@pytest.mark.parametrize("name", [name for name in arch.names() if name.startswith(OF_MBCONVS)])
def test_read_again_it_is_the_same_network(name):
    shipped = arch.load(name)
    again = net_config.read(net_config.write(shipped), name=name)
    assert [block[1] for block in again.blocks()] == [block[1] for block in shipped.blocks()]
    assert [key for _, key in again.op_keys()] == [key for _, key in shipped.op_keys()]
    if name in PUBLISHED:  # their blocks are choices of the paper's space, and can be searched again
        assert (again.space, again.ops) == (shipped.space, shipped.ops)


def test_other_image_size_is_the_resolution_of_mcunet(small_arch):
    written = net_config.write(small_arch)
    assert written["resolution"] == 16
    again = net_config.read(written)
    assert (again.space.input_size, again.space.num_classes) == (16, 4)
    assert again.blocks()[-1][0].filters == 4
    assert net_config.read(written, input_size=32).space.input_size == 32


def test_names_of_once_for_all_are_read():
    theirs = net_config.write(arch.load("proxyless_mobile"))
    for block in theirs["blocks"]:
        block["name"], block["conv"] = "ResidualBlock", block.pop("mobile_inverted_conv")
        if block["conv"]["name"] == "ZeroLayer":
            block["conv"] = None
        else:
            block["conv"] |= {"name": "MBConvLayer", "act_func": "relu6", "use_se": False, "mid_channels": None}
    again, shipped = net_config.read(theirs, name="proxyless_mobile"), arch.load("proxyless_mobile")
    assert (again.space, again.ops) == (shipped.space, shipped.ops)


def changed(path, value):
    def change(config):
        *parents, last = path
        for key in parents:
            config = config[key]
        config[last] = value
    return change


MBCONV = ("blocks", 1, "mobile_inverted_conv")
BAD = {
    "another network": (changed(["name"], "MobileNetV3"), "expected name ProxylessNASNets, got 'MobileNetV3'"),
    "no blocks": (changed(["blocks"], None), "expected an object with blocks"),
    "text in place of a block": (changed(["blocks", 1], "mb"), "block 1: expected an object, got 'mb'"),
    "list in place of a name": (changed(["blocks", 1, "name"], []), "expected MobileInvertedResidualBlock"),
    "unknown layer": (changed([*MBCONV, "name"], "GhostLayer"), "got 'GhostLayer'"),
    "missing field": (changed([*MBCONV, "stride"], None), "stride must be a whole number, got None"),
    "half a channel": (changed([*MBCONV, "out_channels"], 3.5), "out_channels must be a whole number, got 3.5"),
    "no number": (changed([*MBCONV, "out_channels"], float("nan")), "out_channels must be a whole number"),
    "even kernel": (changed([*MBCONV, "kernel_size"], 4), "k may not be 4"),
    "other channels than come in": (changed([*MBCONV, "in_channels"], 17), "in_channels must be 16"),
    "other features than come in": (changed(["classifier", "in_features"], 64), "in_features must be 1280"),
    "squeeze and excite": (changed([*MBCONV, "use_se"], True), "no squeeze-and-excite"),
    "another activation": (changed(["first_conv", "act_func"], "h_swish"), "expected a plain ConvLayer"),
    "another epsilon": (changed(["bn", "eps"], 1e-5), "expected batch norm with eps 0.001"),
    "nothing at all": (changed(["blocks", 2], SKIPPED_BLOCK | {"shortcut": None}), "a ZeroLayer needs a shortcut"),
    "no classes": (changed(["classifier", "out_features"], 0), "num_classes must be a whole number from 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_the_place(case):
    change, expected = BAD[case]
    config = copy.deepcopy(net_config.write(arch.load("proxyless_mobile")))
    change(config)
    with pytest.raises(InputError) as error:
        net_config.read(config, where="my.config")
    assert expected in str(error.value) and str(error.value).startswith("my.config") and "\n" not in str(error.value)


def test_ops_without_a_word_are_refused():
    from pnas_tf.space.blocks import Block, Space

    head = (Block("classifier", ("classifier",), 4),)
    for stem, blocks, expected in [
            ((Block("stem", ("conv_k3",), 8),), (Block("b00", ("conv_k3",), 8),),
             "cannot describe conv_k3 of block b00"),
            ((Block("stem", ("mb_k3_e1",), 8),), (), "stem must be a convolution with ReLU6 and no shortcut"),
            ((Block("stem", ("conv_k3",), 8), Block("more", ("conv_k3",), 8)), (), "one first layer")]:
        with pytest.raises(InputError, match=expected):
            net_config.write(arch.Arch(Space("other", 16, 3, 4, stem, blocks, head), {}))


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "pnas_tf.net_config", *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)


def test_commands_go_both_ways(tmp_path, small_arch):
    small_arch.save(str(tmp_path / "arch.json"))
    there = run(f"--source={tmp_path}/arch.json", f"--output={tmp_path}/small.config")
    back = run(f"--source={tmp_path}/small.config", f"--output={tmp_path}/again.json")
    assert (there.returncode, back.returncode) == (0, 0), there.stderr + back.stderr
    assert "Written: " in back.stdout
    assert net_config.write(arch.load(str(tmp_path / "again.json"))) == net_config.write(small_arch)


@pytest.mark.parametrize("content", ['{"name": "ProxylessNASNets", "blocks": [', '{"blocks": 3}', "[]"])
def test_damaged_file_is_one_line_and_nothing_is_written(tmp_path, content):
    (tmp_path / "net.config").write_text(content)
    result = run(f"--source={tmp_path}/net.config", f"--output={tmp_path}/arch.json")
    assert result.returncode == 1 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "arch.json").exists()
