"""An export of other images than those of the training."""

import dataclasses
import json

import pytest

from export import trained_images
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.train import fit as fit_lib
from pnas_tf.train.recipe import Recipe


@pytest.fixture(scope="module")
def facts(small_arch, small_data, tmp_path_factory):
    """Path of the train.json of a training of two steps."""
    folder = RunFolder(str(tmp_path_factory.mktemp("trained")))
    fit_lib.fit(small_arch, small_data, Recipe(max_steps=2, batch_size=32), folder)
    return folder.training_facts


def test_the_images_of_the_training_are_right(facts, small_data):
    for are_the_same in (True, False):
        trained_images.check(small_data, facts, are_the_same=are_the_same)


@pytest.mark.parametrize("changes, message", [
    ({"class_names": ("bottom half", "top half", "middle columns", "äußere Spalten 外列")},
     "class 0 is 'top half' there and 'bottom half' here"),
    ({"class_names": ("top half", "bottom half", "middle columns")}, "class 3 is .* there and missing here"),
    ({"mean": (90.0, 90.0, 90.0)}, "normalised otherwise than those of .*mean .* there, 90, 90, 90 here"),
    ({"std": (1.0, 1.0, 1.0)}, r"normalised otherwise than those of .*std .* there, 1, 1, 1 here"),
    ({"mean": (90.0,), "std": (50.0,)}, "normalised otherwise")])
def test_other_classes_and_normalisations_are_refused(facts, small_data, changes, message):
    """The file would take other pixels, or call its outputs by other names."""
    with pytest.raises(InputError, match=message):
        trained_images.check(dataclasses.replace(small_data, **changes), facts, are_the_same=False)


@pytest.mark.parametrize("content", ["[]", "{}", '{"trained_on": 3, "settings": []}', '{"trained_on": {"mean": ["x"]}}',
                                     '{"trained_on": {"mean": [true, 1, 2], "std": {}, "class_names": 7}}'])
def test_records_of_strangers_are_refused_or_say_nothing(tmp_path, small_data, content):
    (tmp_path / "train.json").write_text(content)
    try:
        trained_images.check(small_data, str(tmp_path / "train.json"), are_the_same=True)
    except InputError as error:
        assert "normalised otherwise" in str(error) and "\n" not in str(error)
    assert json.loads(content) is not None
