"""Specs of data sets."""

import pytest

from pnas_tf.data import spec


@pytest.mark.parametrize(("one", "other", "same"), [
    ("folder:photos", "folder:./x/../photos", True), ("folder:photos", "folder:link", True),
    ("folder:photos", "folder:photos2", False), ("folder:photos", "npz:photos", False), ("cifar10", "cifar10", True),
    ("cifar10", "cifar100", False), ("tfds:a/b", "tfds:a/./b", False), ("folder:~/a", "folder:b/a", True)])
def test_paths_may_be_written_otherwise(tmp_path, monkeypatch, one, other, same):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "b"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    assert spec.is_same(one, other) == same
