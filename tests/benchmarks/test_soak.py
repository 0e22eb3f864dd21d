"""A long search neither takes more and more memory nor leaves files open."""

import pytest

from benchmarks.speed import soak


@pytest.mark.slow
def test_nothing_grows_over_2000_steps(tmp_path):
    figures = soak.run(str(tmp_path), steps=2000, settled_steps=200)
    assert figures["steps"] == 2000 and len(figures["samples"]) == 40
    assert figures["grown_percent"] < 2
    assert figures["last"]["open_files"] == figures["settled"]["open_files"]
