"""Front matter is YAML that model hubs read."""

import subprocess
import sys

import pytest

from export import front_matter

FACTS = {"mode": "int8", "name": 'my "net": #1', "dataset": "folder:/home/a/pho: tos", "license": "Apache-2.0",
         "top1": 0.98765, "checked_images": 300}


def parsed(**changes):
    yaml = pytest.importorskip("yaml")
    first, *lines, last = front_matter.render([{**FACTS, **changes}, {**FACTS, "mode": "float32", "top1": 0.99}])
    assert (first, last) == ("---", "---")
    return yaml.safe_load("\n".join(lines))


def test_fields():
    data = parsed()
    assert (data["library_name"], data["pipeline_tag"], data["license"]) == ("litert", "image-classification",
                                                                            "apache-2.0")
    assert data["tags"] == ["tflite"] and data["metrics"] == ["accuracy"]
    model, = data["model-index"]
    result, = model["results"]
    assert model["name"] == 'my "net": #1' and result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "pho: tos", "type": "imagefolder", "split": "test"}
    assert [metric["value"] for metric in result["metrics"]] == [0.9877, 0.99]
    assert [metric["type"] for metric in result["metrics"]] == ["accuracy", "accuracy"]
    assert "int8.tflite" in result["metrics"][0]["name"] and "float32.tflite" in result["metrics"][1]["name"]


@pytest.mark.parametrize(("text", "fields"), [
    ("MIT", {"license": "mit"}), ("CC BY 4.0", {"license": "cc-by-4.0"}), ("not named", {}),
    ("My Company's\nterms: v2", {"license": "other", "license_name": "my-company-s-terms-v2"}), ("外", {
        "license": "other", "license_name": "other"})])
def test_licences(text, fields):
    data = parsed(license=text)
    assert {name: data[name] for name in ("license", "license_name") if name in data} == fields


@pytest.mark.parametrize(("dataset", "name", "kind"), [
    ("cifar10", "cifar10", "cifar10"), ("fashion_mnist_small", "fashion_mnist_small", "fashion_mnist"),
    ("npz:places.npz", "places.npz", "npz"), ("tfds:beans", "beans", "beans"), ("folder:pet photos/", "pet photos",
                                                                             "imagefolder")])
def test_data_sets(dataset, name, kind):
    dataset = parsed(dataset=dataset)["model-index"][0]["results"][0]["dataset"]
    assert (dataset["name"], dataset["type"]) == (name, kind)


@pytest.mark.parametrize("name", ["a\n---\nb", "\x7f\u2028\ud800", "- x", "null", "{a", "é外😀"])
def test_text_from_outside_cannot_leave_its_field(name):
    assert parsed(name=name)["model-index"][0]["name"] == "".join(
        letter if letter.isprintable() else "?" for letter in name)


@pytest.mark.slow
def test_hugging_face_reads_it(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "hub"], check=True)
    python = tmp_path / "hub" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "huggingface_hub"], check=True)
    (tmp_path / "README.md").write_text("\n".join([*front_matter.render([FACTS]), "", "# A network"]), encoding="utf-8")
    program = ("import sys; from huggingface_hub import ModelCard; card = ModelCard.load(sys.argv[1]); "
               "result, = card.data.eval_results; print(card.data.library_name, card.data.license, result.task_type, "
               "result.dataset_type, result.dataset_name, result.metric_type, result.metric_value)")
    done = subprocess.run([python, "-c", program, tmp_path / "README.md"], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "litert apache-2.0 image-classification imagefolder pho: tos accuracy 0.9877"
