"""A supernet with weights warmed up on real data: trained once and kept in a file for other benchmarks."""

import dataclasses
import os
import time

from pnas_tf.errors import InputError
from pnas_tf.space import blocks

SUFFIX = ".weights.h5"


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Settings of a warm-up.

    Attributes:
        file: File of the weights, which ends in `SUFFIX`: read if it exists, else written. None to keep nothing.
        epochs: Number of epochs.
        batch_size: Images per step.
        lr: Learning rate at the start. It falls to a quarter, as a cosine.
        seed: Seed of weights, paths and batches.
    """

    file: str | None = None
    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.2
    seed: int = 0


def warmed(search_space: blocks.Space, data, settings: WarmUp):
    """A supernet after its warm-up: uniformly sampled paths, no architecture step.

    Args:
        search_space: Space, fitted to the data.
        data: Data set, from `data.load`.
        settings: Settings of the warm-up.

    Returns:
        The `Supernet`.

    Raises:
        InputError: If the file holds the weights of something else.
    """
    from pnas_tf.supernet import supernet

    file = settings.file
    if file and not file.endswith(SUFFIX):
        raise InputError(f"--supernet must end in {SUFFIX} (weights in HDF5), got {file}.")
    net = supernet.Supernet(search_space, settings.seed)
    if file and os.path.exists(file):
        try:
            net.load_weights(file)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{file}: not the weights of supernet {search_space.name} "
                             f"({' '.join(str(error).split())[:150]}). Remove it to warm up again.") from None
        return net
    _train(net, data, settings)
    if file:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        temporary = file.removesuffix(SUFFIX) + ".part" + SUFFIX
        net.save_weights(temporary)
        os.replace(temporary, file)
    return net


def _train(net, data, settings):
    import keras

    from pnas_tf.cost import prices
    from pnas_tf.search import arch_updaters, objective, schedule, searcher

    epochs, batch_size = settings.epochs, settings.batch_size
    plan = schedule.Schedule(data.train.steps_per_epoch(batch_size), epochs, 1, 1, settings.lr, settings.lr / 4)
    free = prices.matrix(net.space, lambda name, key: 0.0)
    model = searcher.Searcher(net, arch_updaters.GradientUpdater(net, free, objective.no_latency()), plan,
                              seed=settings.seed)
    model.compile(searcher.alpha_optimizer(0.0))
    begin = time.time()

    def show(epoch, logs):
        print(f"warm-up {epoch + 1}/{epochs}: training loss {logs['train_loss']:.3f}, accuracy "
              f"{100 * logs['train_accuracy']:.1f} %, {time.time() - begin:.0f} s", flush=True)

    model.fit(searcher.alternating_batches(data.train, data.held_out, plan, batch_size, settings.seed), epochs=epochs,
              steps_per_epoch=plan.steps_per_epoch, verbose=0, shuffle=False,
              callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)])
