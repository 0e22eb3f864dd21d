"""NaN and infinity stop a search at once, with the step and the cause in the error and without a checkpoint."""

import numpy as np
import pytest

from pnas_tf import data
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import prices
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import build as search_build
from pnas_tf.search import checkpoints, config, schedule, searcher, stopping
from pnas_tf.space import blocks, spaces
from pnas_tf.supernet import supernet

pytestmark = pytest.mark.usefixtures("search_graphs")
TINY = spaces.mb_space("tiny", input_size=28, input_channels=1, num_classes=10,
                      stem=blocks.Block("stem", ("conv_k3",), 8, 2), first=blocks.Block("b00", ("mb_k3_e1",), 8, 2),
                      stages=(spaces.Stage(8, 1, 1),), mix=16)
PLAN = schedule.Schedule(steps_per_epoch=8, warmup_epochs=1, search_epochs=1, arch_every=2, warmup_lr=0.05, lr=0.05)


@pytest.fixture(scope="module")
def images():
    return data.load("fashion_mnist_small")


def build(plan=PLAN):
    net = supernet.Supernet(TINY, 3)
    goal = goals_lib.Goal("t", prices.matrix(TINY, lambda *_: 0.01), 0.05, [], True)
    model = searcher.Searcher(net, list(search_build.updaters(config.Method(), net, [goal], plan)), plan, seed=3)
    model.compile(searcher.alpha_optimizer(0.05))
    return model


class Spoil(stopping.StopOnNonFinite):
    """Puts a value into a variable after step `after`, then checks as usual."""

    def __init__(self, after, variable, value):
        super().__init__()
        self._after, self._variable, self._value = after, variable, value

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step.value.numpy()) == self._after:
            wrong = self._variable.numpy().copy()
            wrong.flat[0] = self._value
            self._variable.assign(wrong)
        super().on_train_batch_end(batch, logs)


def go_on(model, images, callback):
    model.go_on(lambda step: searcher.alternating_batches(images.train, images.held_out, model.schedule, 16, 3, step),
                [callback])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_alpha(value, images, tmp_path):
    model = build()
    with pytest.raises(InputError, match=r"Step 9 of 16 \(epoch 2, search\): an alpha is (nan|inf).*--alpha_lr"):
        go_on(model, images, Spoil(9, model.supernet.alpha, value))
    assert int(model.step.value.numpy()) == 9
    with pytest.raises(InputError, match="an alpha is"):
        checkpoints.save(model, RunFolder(str(tmp_path)))
    assert not (tmp_path / "checkpoints").exists()


def test_a_loss(images):
    model = build()
    head = model.supernet.mixed_ops[-1].candidates[0]
    with pytest.raises(InputError, match=r"Step 4 of 16 \(epoch 1, warm-up\): train_loss is nan.*--warmup_lr"):
        go_on(model, images, Spoil(3, head.kernel, np.nan))


def test_the_last_step_of_an_epoch(images):
    model = build()
    with pytest.raises(InputError, match=r"Step 8 of 16 .*an alpha"):
        go_on(model, images, Spoil(8, model.supernet.alpha, np.nan))
    assert int(model.step.value.numpy()) == 8


def test_a_learning_rate_far_too_large(images):
    """Weights that really diverge."""
    plan = schedule.Schedule(8, 1, 1, 2, warmup_lr=1e30, lr=1e30)
    with pytest.raises(InputError, match=r"train_loss is (nan|inf).*diverged at learning rate .*e\+"):
        go_on(build(plan), images, stopping.StopOnNonFinite())


def test_an_undisturbed_search_is_not_stopped(images):
    model = build()
    go_on(model, images, stopping.StopOnNonFinite())
    assert int(model.step.value.numpy()) == PLAN.steps
