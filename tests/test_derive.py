"""Derivation against all archs of a small space."""

import itertools

import numpy as np
import pytest

from pnas_tf import cost, derive, space

SMALL = space.mb_space("small", input_size=8, num_classes=4, stem=space.Block("stem", ("conv_k3",), 8),
                       first=space.Block("b00", ("mb_k3_e1",), 8), widths=(8, 16), cells=(2, 2), strides=(1, 2), mix=16)
COUNTS = [len(block.ops) for block in SMALL.choices.values()]


def problem(seed):
    rng = np.random.default_rng(seed)
    mask = np.arange(7) < np.array(COUNTS)[:, None]
    probs = rng.dirichlet(np.full(7, 0.5), size=4) * mask
    return probs / probs.sum(1, keepdims=True), cost.Cost((rng.uniform(0, 1, (4, 7)) * mask).astype(np.float32), 0.3)


def test_most_probable_takes_each_largest():
    probs, _ = problem(0)
    arch = derive.most_probable(SMALL, probs)
    assert [block.ops.index(arch.ops[name]) for name, block in SMALL.choices.items()] == list(probs.argmax(1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [0.7, 1.2, 2.0, 9.0])
def test_within_a_limit_it_is_the_best_of_all(seed, limit):
    probs, ms = problem(seed)
    best, best_score = None, -np.inf
    for path in itertools.product(*map(range, COUNTS)):
        if ms.of_path(np.array(path)) <= limit:
            score = sum(np.log(max(p[i], 1e-300)) for p, i in zip(probs, path, strict=True))
            if score > best_score:
                best, best_score = path, score
    found = derive.most_probable_within(SMALL, probs, ms, limit)
    if best is None:
        assert found is None
    else:
        assert tuple(block.ops.index(found.ops[name]) for name, block in SMALL.choices.items()) == best


def test_a_coarse_grid_still_keeps_the_limit(monkeypatch):
    monkeypatch.setattr(derive, "MAX_FRONTIER", 3)
    for seed in range(6):
        probs, ms = problem(seed)
        found = derive.most_probable_within(SMALL, probs, ms, 1.5)
        path = np.array([block.ops.index(found.ops[name]) for name, block in SMALL.choices.items()])
        assert ms.of_path(path) <= 1.5


def test_large_space_is_quick_enough_to_be_exact():
    imagenet = space.SPACES["proxyless_imagenet"]
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array([len(block.ops) for block in imagenet.choices.values()])[:, None]
    probs = rng.dirichlet(np.ones(7), size=21) * mask
    ms = cost.Cost((rng.uniform(0, 4, (21, 7)) * mask).astype(np.float32), 5.0)
    found = derive.most_probable_within(imagenet, probs, ms, 30.0)
    path = np.array([block.ops.index(found.ops[name]) for name, block in imagenet.choices.items()])
    assert ms.of_path(path) <= 30.0 + 1e-3
