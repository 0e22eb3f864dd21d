"""The mistakes of a network: as NumPy counts them, in the page, and from hostile files."""

import base64
import io
import json

import keras
import numpy as np
import pytest

from pnas_tf import data
from pnas_tf.errors import InputError
from pnas_tf.report import mistakes as report_mistakes
from pnas_tf.report import page
from pnas_tf.train import mistakes


@pytest.fixture(scope="module")
def unsure(small_model):
    """The small network with disturbed kernels, since it makes no mistakes otherwise."""
    model = keras.models.clone_model(small_model)
    rng = np.random.default_rng(0)
    model.set_weights([value + rng.normal(0, value.std(), value.shape) if value.ndim > 1 else value
                       for value in small_model.get_weights()])
    return model


@pytest.fixture(scope="module")
def found(unsure, small_data):
    return mistakes.find(unsure, small_data.test, small_data.class_names)


def test_mistakes_are_those_that_numpy_counts(found, unsure, small_data):
    score, wrong = found
    images, labels = (np.concatenate(each) for each in zip(*small_data.test.batches(64).as_numpy_iterator(),
                                                           strict=True))
    probs = keras.ops.softmax(unsure.predict(images, verbose=0)).numpy()
    predicted = probs.argmax(1)
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (labels, predicted), 1)
    dense = np.zeros((4, 4), int)
    for label, prediction, count in wrong["confusion"]:
        dense[label, prediction] = count
    np.testing.assert_array_equal(dense, matrix)
    assert [each["images"] for each in wrong["classes"]] == matrix.sum(1).tolist()
    np.testing.assert_allclose([each["accuracy"] for each in wrong["classes"]], matrix.diagonal() / matrix.sum(1))
    losses = -np.log(probs[np.arange(300), labels])
    assert score.accuracy == pytest.approx((predicted == labels).mean()) and score.images == 300
    assert score.loss == pytest.approx(losses.mean(), rel=1e-4)
    order = [place for place in np.argsort(-losses) if predicted[place] != labels[place]][:12]
    assert order and [image["label"] for image in wrong["mistaken"]] == labels[order].tolist()
    np.testing.assert_allclose([image["probability"] for image in wrong["mistaken"]], probs[order].max(1), rtol=1e-4)
    pixels = images[order[0]] * small_data.std + small_data.mean
    thumbnail = keras.utils.load_img(_file(wrong["mistaken"][0]["thumbnail"]))
    np.testing.assert_allclose(np.asarray(thumbnail), pixels, atol=1)


def _file(thumbnail):
    return io.BytesIO(base64.b64decode(thumbnail))


def test_summary_names_the_worst(found):
    classes = [{"name": name, "images": 4, "accuracy": rate} for name, rate in
               (("a", 0.75), ("b", 1.0), ("c", 0.25), ("d", None), ("e", 0.5))]
    confusion = [[0, 0, 3], [0, 1, 1], [1, 1, 4], [2, 2, 1], [2, 0, 3], [4, 4, 2], [4, 0, 2]]
    assert mistakes.summary({"classes": classes, "confusion": confusion}) == (
        "Worst classes: c 25.00 %, e 50.00 %, a 75.00 %. Commonest confusion: c taken for a, 3 times.")
    assert mistakes.summary({"classes": classes, "confusion": [[0, 1, 1]]}).endswith("a taken for b, once.")
    assert mistakes.summary({"classes": classes[1:2], "confusion": [[0, 0, 4]]}) == ""


def test_mistakes_of_files_name_them(tmp_path, small_model):
    rng = np.random.default_rng(0)
    for label in "abcd":
        (tmp_path / label).mkdir()
        for number in range(10):
            keras.utils.save_img(tmp_path / label / f"{number}.png", rng.integers(0, 256, (40, 30, 3)), scale=False)
    images = data.load(f"folder:{tmp_path}", image_size=16)
    _, wrong = mistakes.find(small_model, images.test, images.class_names)
    for image in wrong["mistaken"]:
        assert image["path"].startswith(str(tmp_path / images.class_names[image["label"]]))
        assert np.asarray(keras.utils.load_img(_file(image["thumbnail"]))).shape == (16, 16, 3)


def test_page_shows_them(found, small_arch, tmp_path):
    small_arch.save(str(tmp_path / "arch.json"))
    (tmp_path / "mistakes.json").write_text(json.dumps(found[1]))
    page.run(str(tmp_path))
    html = (tmp_path / "report.html").read_text()
    assert 'id="mistakes"' in html and html.count("data:image/png;base64,") == len(found[1]["mistaken"])
    assert "äußere Spalten 外列" in html and 'aria-label="confusion"' in html
    (tmp_path / "mistakes.json").unlink()
    page.run(str(tmp_path))
    assert 'id="mistakes"' not in (tmp_path / "report.html").read_text()


def test_many_classes_are_a_list(tmp_path):
    classes = [{"name": f"c{label}", "images": 5, "accuracy": label / 1000} for label in range(1000)]
    many = {"classes": classes, "confusion": [[label, (label + 1) % 1000, 1 + label % 7] for label in range(1000)]}
    (tmp_path / "mistakes.json").write_text(json.dumps(many))
    read = report_mistakes.read(str(tmp_path / "mistakes.json"))
    assert report_mistakes.confusion_chart(read) is None
    assert len(read.commonest) == 10 and {images for _, _, images in read.commonest} == {7}
    assert [each.name for each in read.worst][:2] == ["c0", "c1"] and len(read.worst) == 200


@pytest.mark.parametrize("content", ["[]", '{"classes": 3}', '{"classes": []}', '{"classes": [{"name'])
def test_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "mistakes.json").write_text(content)
    with pytest.raises(InputError) as error:
        report_mistakes.read(str(tmp_path / "mistakes.json"))
    assert "\n" not in str(error.value)


def test_hostile_entries_are_left_out_or_shown_as_text(small_arch, tmp_path):
    small_arch.save(str(tmp_path / "arch.json"))
    image = {"label": 0, "prediction": 1, "probability": 0.5, "path": "<script>", "thumbnail": "x\" onload=\""}
    hostile = {"classes": [{"name": "<script>alert(1)</script>", "images": 1e400, "accuracy": "x"}, {"name": 3}],
               "confusion": [[0, 9, 1], [0, -1, 1], [True, 0, 1], "abc", [0, 1, 2]],
               "mistaken": [{**image, "label": 7}, {**image, "probability": 2}, image, 5]}
    (tmp_path / "mistakes.json").write_text(json.dumps(hostile))
    read = report_mistakes.read(str(tmp_path / "mistakes.json"))
    assert read.confusion == ((0, 1, 2),) and len(read.mistaken) == 1 and read.mistaken[0].thumbnail == ""
    page.run(str(tmp_path))
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html and "onload" not in html
