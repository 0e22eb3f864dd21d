"""The benchmark of transfer on made-up devices whose rows and pace are known."""

import numpy as np
import pytest

from benchmarks.targets import transfer
from pnas_tf.errors import InputError

NETWORKS, LAYERS, OPS = 300, 6, 4


def made_up(path):
    """Three devices that do not drift, and a phone with rows of a mixture of theirs, which drifts by 15 %."""
    rng = np.random.default_rng(0)
    archs = rng.integers(OPS, size=(NETWORKS, LAYERS)).astype(np.uint8)
    tables = rng.uniform(1.0, 4.0, (3, LAYERS, OPS))
    tables[:, :, -1] = 0.2
    tables = np.concatenate([tables, [0.8 * tables[0] + 0.6 * tables[1]]])
    ms = 3 + tables[:, np.arange(LAYERS), archs].sum(-1)
    ms *= np.exp(0.005 * rng.standard_normal(ms.shape))
    ms[3] *= np.exp(0.15 * np.sin(np.arange(NETWORKS) / 15))
    np.savez(path, archs=archs, one=ms[0], two=ms[1], three=ms[2], phone=ms[3].astype(np.float32))
    return str(path)


def test_a_drifting_phone_is_predicted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "TIMED", (40,))
    result = transfer.run(made_up(tmp_path / "data.npz"), ["phone"], repeats=2)
    assert set(result) == {"no pace", "full", "neighbours 40", "strict 40"}
    assert all((np.mean(shares["phone"]) > 0.9) == (name != "no pace") for name, shares in result.items()), result
    assert "| protocol | phone |" in transfer.show(result) and "phone: no pace" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"has no device pixel2\. Its devices: one, two, three, phone"):
        transfer.run(str(tmp_path / "data.npz"))


def test_counts_of_rows():
    counts = transfer.counts_of(np.array([[0, 2], [2, 1]]))
    assert counts.tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("arrays", [{}, {"archs": np.zeros(3)}, {"archs": np.zeros((3, 2), int), "a": np.zeros(3)},
                                    {"archs": np.zeros((3, 2), int), "a": np.ones(4)},
                                    {"archs": np.array([[object()]])}])
def test_other_files_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=r"expected an \.npz file with archs"):
        transfer.read(str(tmp_path / "data.npz"))
    with pytest.raises(InputError, match=r"expected an \.npz file with archs"):
        transfer.read(str(tmp_path / "missing.npz"))
