"""A long search neither grows nor leaves files open."""

import pytest

from benchmarks.speed import soak


@pytest.mark.slow
def test_nothing_grows_over_2000_steps(tmp_path):
    found = soak.run(str(tmp_path), steps=2000, settled_steps=200)
    assert found["steps"] == 2000 and len(found["samples"]) == 40
    assert found["grown_percent"] < 2
    assert found["last"]["open_files"] == found["settled"]["open_files"]
