"""A supernet that starts from the weights of another search or of a network."""

import keras
import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.cost import prices
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import arch_updaters, checkpoints, initial_weights, objective, searcher
from pnas_tf.search.schedule import Schedule
from pnas_tf.space import arch, blocks, spaces
from pnas_tf.supernet import supernet

SMALL = spaces.mb_space("small", input_size=8, num_classes=3, stem=blocks.Block("stem", ("conv_k3",), 8),
                       first=blocks.Block("b00", ("mb_k3_e1",), 8), stages=(spaces.Stage(8, 2, 1),), mix=16)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A supernet in which every variable has a different value, and the folder of its checkpoint."""
    net = supernet.Supernet(SMALL, seed=1)
    random = np.random.default_rng(0)
    for candidate in candidates(net).values():
        for variable in (candidate.kernel, candidate.stats, candidate.momentum):
            if variable is not None:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
    free = prices.matrix(SMALL, lambda name, key: 1.0)
    model = searcher.Searcher(net, arch_updaters.GradientUpdater(net, free, objective.no_latency()),
                              Schedule(2, 1, 1, 1, 0.1, 0.1))
    model.compile(searcher.alpha_optimizer(0.1))
    folder = tmp_path_factory.mktemp("searched")
    checkpoints.save(model, RunFolder(str(folder)))
    return net, folder


def candidates(net):
    return {candidate.prefix: candidate for mixed_op in net.mixed_ops for candidate in mixed_op.candidates
            if candidate is not None}


def test_another_search_gives_all_but_a_classifier_of_other_classes(searched, capsys):
    before, folder = searched
    net = supernet.Supernet(SMALL.for_data(8, 3, 5), seed=7)
    classifier = np.asarray(candidates(net)["classifier_classifier"].kernel)
    initial_weights.into_supernet(net, str(folder))
    given = candidates(before)
    for name, candidate in candidates(net).items():
        for mine, theirs in ((candidate.kernel, given[name].kernel), (candidate.stats, given[name].stats)):
            if mine is not None and name != "classifier_classifier":
                np.testing.assert_array_equal(mine, theirs)
        assert not np.any(candidate.momentum)
    np.testing.assert_array_equal(candidates(net)["classifier_classifier"].kernel, classifier)
    assert f"Weights of 15 of 16 ops come from {folder}" in capsys.readouterr().out


def test_a_network_gives_the_ops_it_has(tmp_path, capsys):
    small_arch = arch.from_path(SMALL, [1, 4])
    model = network.build_network(small_arch)
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    network.portable(model).save(tmp_path / "model.keras")
    net = supernet.Supernet(SMALL, seed=7)
    untouched = np.asarray(candidates(net)["b01_mb_k3_e3"].kernel)
    initial_weights.into_supernet(net, str(tmp_path / "model.keras"))
    assert "Weights of 6 of 16 ops" in capsys.readouterr().out
    copy = network.build_network(small_arch)
    net.copy_weights_to(copy, small_arch)
    for mine, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    np.testing.assert_array_equal(candidates(net)["b01_mb_k3_e3"].kernel, untouched)


def test_what_gives_nothing_is_refused(searched, tmp_path):
    net = supernet.Supernet(SMALL.scaled(2.0))
    with pytest.raises(InputError, match="no op of small has weights of the same shape"):
        initial_weights.into_supernet(net, str(searched[1]))
    with pytest.raises(InputError, match="no checkpoint of a search"):
        initial_weights.into_supernet(net, str(tmp_path))
    with pytest.raises(InputError, match=r"neither the folder of a search nor a \.keras file"):
        initial_weights.into_supernet(net, str(tmp_path / "none"))
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=r"other\.keras: no op of small has weights of the same shape"):
        initial_weights.into_supernet(net, str(tmp_path / "other.keras"))
