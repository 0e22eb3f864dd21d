"""Spaces, archs and published networks against published numbers."""

import dataclasses
import json
import types

import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.space import arch, checks, ops, spaces
from pnas_tf.space import blocks as blocks_lib

PUBLISHED = {  # parameters, multiply-accumulates at 224x224
    "proxyless_mobile": (4_080_512, 320_427_584), "proxyless_mobile_14": (6_857_568, 580_883_408),
    "proxyless_cpu": (4_361_648, 439_243_864), "proxyless_gpu": (7_119_848, 465_260_160),
    "mobilenet_v2": (3_504_872, 300_774_272),
    # Counted on the PyTorch package efficientnet-lite-pytorch 0.1.0 by hooks on its convolutions and dense layer, at
    # the image size of each network. (The authors give 407M for Lite0, counted in another way.)
    "efficientnet_lite0": (4_652_008, 385_187_552), "efficientnet_lite1": (5_416_680, 600_185_232),
    "efficientnet_lite2": (6_092_072, 859_736_272), "efficientnet_lite3": (8_197_096, 1_383_321_872),
    "efficientnet_lite4": (13_006_568, 2_553_034_336)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name):
    model = network.build_network(name)
    assert (network.count_params(model), network.count_macs(model)) == PUBLISHED[name]


def test_lite0_space_holds_the_network_that_its_ops_are_cut_out_of():
    lite0, full = spaces.SPACES["lite0"], arch.load("efficientnet_lite0")
    fixed = {block.name: block.ops[0] for block in full.space.blocks[1:]}
    assert arch.Arch(lite0, fixed).fingerprint() == full.fingerprint()
    choices = [block for block in lite0.all_blocks if len(block.ops) > 1]
    for block in choices:
        k = int(fixed[block.name][4])
        assert block.ops == tuple(f"mb_k{kernel}_e{e}" for kernel in (3, 5) if kernel <= k for e in (3, 4, 6)) + (
            ("zero",) if block.shortcut else ())
    assert len(lite0.choices) == 15 and sum(block.shortcut for block in choices) == 9
    assert (lite0.normalisation, lite0.pretrained) == (full.space.normalisation, full.space.pretrained) == (
        (127, 128), "efficientnet_lite0")
    assert arch.load("efficientnet_lite1").space.pretrained is None


def test_imagenet_space_is_the_original_one():
    imagenet = spaces.SPACES["proxyless_imagenet"]
    assert imagenet.size == 221_502_229_807_900_608
    assert len(imagenet.choices) == 21
    assert sum(ops.ZERO in block.ops for block in imagenet.choices.values()) == 15
    assert " ".join(imagenet.choices["b02"].ops) == "mb_k3_e3 mb_k3_e6 mb_k5_e3 mb_k5_e6 mb_k7_e3 mb_k7_e6 zero"
    shapes = imagenet.input_shapes()
    assert (shapes["b01"], shapes["mix"], shapes["classifier"]) == ((112, 112, 16), (7, 7, 320), (7, 7, 1280))


@pytest.mark.parametrize("op, macs, params", [("mb_k3_e3", None, None), ("mb_k7_e6", 606_590_720, 5_103_336)])
def test_largest_network_of_the_imagenet_space(op, macs, params):
    imagenet = spaces.SPACES["proxyless_imagenet"]
    model = network.build_network(arch.Arch(imagenet, dict.fromkeys(imagenet.choices, op)))
    if macs:
        assert (network.count_macs(model), network.count_params(model)) == (macs, params)


def test_smallest_network_of_the_imagenet_space():
    imagenet = spaces.SPACES["proxyless_imagenet"]
    least = arch.Arch(imagenet, {name: "zero" if "zero" in block.ops else "mb_k3_e3"
                                 for name, block in imagenet.choices.items()})
    model = network.build_network(least)
    assert (network.count_macs(model), network.count_params(model)) == (102_528_896, 2_154_984)


def test_width_mult_gives_the_published_gpu_widths():
    """The GPU network has exactly the widths of 1.35."""
    scaled = [block.filters for block in spaces.SPACES["proxyless_imagenet"].scaled(1.35).all_blocks]
    assert scaled == [block.filters for block in arch.load("proxyless_gpu").space.all_blocks]
    mix = {block.name: block.filters for block in spaces.SPACES["proxyless_imagenet"].scaled(0.5).all_blocks}["mix"]
    assert mix == 1280


@pytest.mark.parametrize("value, expected", [(4, 8), (12, 16), (18, 24), (17.5, 16), (43.2, 40), (1792, 1792)])
def test_make_divisible(value, expected):
    assert blocks_lib.make_divisible(value) == expected


@pytest.mark.parametrize("name", spaces.SPACES)
def test_spaces_round_trip_and_adapt_to_data(name):
    each = spaces.SPACES[name]
    assert spaces.from_json(json.loads(json.dumps(each.to_json()))) == each
    other = each.for_data(48, 1, 3)
    assert other.input_shapes()["stem"] == (48, 48, 1)
    assert other.head[-1].filters == 3
    grey = types.SimpleNamespace(image_shape=(48, 48, 1), num_classes=3, mean=(127,), std=(128,))
    assert each.fitted_to(grey) == other


@pytest.mark.parametrize("change", [
    {"input_size": 0}, {"input_size": 10**9}, {"input_size": "224"}, {"num_classes": 1}, {"num_classes": True},
    {"stem": ()}, {"head": ()}, {"name": ""}])
def test_impossible_spaces_are_refused(change):
    with pytest.raises(InputError):
        dataclasses.replace(spaces.SPACES["quickstart"], **change)


@pytest.mark.parametrize("name", ["my space", "größe", "a/b", "_x", "-x", ".x", "a:b", "a+b", "a\n", "x" * 101, 1,
                                  None])
def test_names_that_tensorflow_takes_for_no_scope_are_refused_where_read(name):
    """Once accepted, they would end in a traceback of Keras or TensorFlow when the network is built."""
    quickstart = spaces.SPACES["quickstart"]
    for read, data in ((spaces.from_json, {**quickstart.to_json(), "name": name}),
                       (arch.from_json, {**(good := random_arch("quickstart").to_json()),
                                         "space": {**good["space"], "name": name}})):
        with pytest.raises(InputError, match="A space needs a name of at most 100 letters"):
            read(data)


@pytest.mark.parametrize("text, name", [
    ("net", "net"), ("my net", "my_net"), ("größe/3", "gr__e_3"), ("_.x", "x"), ("", "network"), ("é", "network"),
    ("x" * 200, "x" * 100)])
def test_names_like_the_names_of_files(text, name):
    assert checks.name_like(text) == name
    dataclasses.replace(spaces.SPACES["quickstart"], name=name)


@pytest.mark.parametrize("change, message", [
    ({"ops": ("mb_k3_e3", "nope")}, "Unknown op"), ({"strides": 3}, "strides"), ({"filters": 0}, "filters"),
    ({"shortcut": True}, "shortcut needs"), ({"ops": ("mb_k3_e3", "zero")}, "zero needs"), ({"name": "../x"}, "name"),
    ({"ops": ("mb_k3_e3", "mb_k3_e3")}, "twice"), ({"ops": ()}, "ops"), ({"ops": ("classifier",)}, "classifier")])
def test_impossible_blocks_are_refused(change, message):
    quickstart = spaces.SPACES["quickstart"]
    blocks = (quickstart.blocks[0], dataclasses.replace(quickstart.blocks[1], **change), *quickstart.blocks[2:])
    with pytest.raises(InputError, match=message):
        dataclasses.replace(quickstart, blocks=blocks)


def random_arch(name, seed=0):
    rng = np.random.default_rng(seed)
    choices = spaces.SPACES[name].choices
    return arch.Arch(spaces.SPACES[name], {choice: str(rng.choice(block.ops)) for choice, block in choices.items()})


def test_arch_round_trips_through_its_file(tmp_path):
    before = random_arch("cifar_mb").with_costs(expected_ms=1.5, params=7)
    before.save(str(tmp_path / "arch.json"))
    assert arch.load(str(tmp_path / "arch.json")) == before


def test_cut_off_arch_is_refused(tmp_path):
    file = tmp_path / "arch.json"
    random_arch("cifar_mb").save(str(file))
    text = file.read_text()
    for length in range(0, len(text) - 2, 97):
        file.write_text(text[:length])
        with pytest.raises(InputError, match="cut off"):
            arch.load(str(file))


def test_wrong_archs_are_refused():
    good = random_arch("quickstart")
    data = good.to_json()
    for wrong in ({**data, "format": "other"}, {**data, "ops": {**data["ops"], "b01": "mb_k9_e3"}}, {**data, "ops": {}},
                  {**data, "ops": {**data["ops"], "b99": "zero"}}, {**data, "space": None}, [], None, "arch"):
        with pytest.raises(InputError):
            arch.from_json(wrong)


def test_skipped_blocks_leave_no_layer():
    quickstart = spaces.SPACES["quickstart"]
    net = arch.Arch(quickstart, {name: "zero" if "zero" in block.ops else "mb_k3_e3"
                                 for name, block in quickstart.choices.items()})
    names = [layer.name for layer in network.build_network(net).layers]
    assert any(name.startswith("b01_mb_k3_e3_") for name in names)
    assert not any(name.startswith("b02") for name in names)
    assert "b02        14x14x24     skipped" in net.draw()


def test_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        random_arch("quickstart").save(str(tmp_path / "file" / "arch.json"))


@pytest.mark.parametrize("path", ["runs/phtos/arch.json", "phtos.json"])
def test_a_missing_file_is_no_unknown_name(path):
    with pytest.raises(InputError, match=f"^{path}: no such file"):
        arch.load(path)
