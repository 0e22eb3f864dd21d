"""A supernet whose weights are warmed up on real data, made once and kept in a file: what benchmarks start from."""

import os
import time

from pnas_tf.errors import InputError
from pnas_tf.space import blocks

SUFFIX = ".weights.h5"


def warmed(search_space: blocks.Space, data, *, file: str | None, epochs: int, batch_size: int, lr: float,
           seed: int):
    """A supernet after its warm-up: uniformly sampled paths, no architecture step.

    Args:
        search_space: fits the data.
        data: from `data.load`.
        file: weights to take instead; written if there is no such file yet. None: nothing is kept.
        epochs: of the warm-up.
        batch_size: of the warm-up.
        lr: at its start; falls to a quarter, as a cosine.
        seed: of weights, paths and batches.

    Returns:
        The `Supernet`.

    Raises:
        InputError: if the file holds the weights of something else.
    """
    from pnas_tf.supernet import supernet

    if file and not file.endswith(SUFFIX):
        raise InputError(f"--supernet must end in {SUFFIX} (weights in HDF5), got {file}.")
    net = supernet.Supernet(search_space, seed)
    if file and os.path.exists(file):
        try:
            net.load_weights(file)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{file}: not the weights of supernet {search_space.name} "
                             f"({' '.join(str(error).split())[:150]}). Remove it to warm up anew.") from None
        return net
    _train(net, data, epochs, batch_size, lr, seed)
    if file:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        beside = file.removesuffix(SUFFIX) + ".part" + SUFFIX
        net.save_weights(beside)
        os.replace(beside, file)
    return net


def _train(net, data, epochs, batch_size, lr, seed):
    import keras

    from pnas_tf.cost import prices
    from pnas_tf.search import arch_updaters, objective, schedule, searcher

    plan = schedule.Schedule(data.train.steps_per_epoch(batch_size), epochs, 1, 1, lr, lr / 4)
    free = prices.matrix(net.space, lambda name, key: 0.0)
    model = searcher.Searcher(net, arch_updaters.GradientUpdater(net, free, objective.no_latency()), plan, seed=seed)
    model.compile(searcher.alpha_optimizer(0.0))
    begin = time.time()

    def show(epoch, logs):
        print(f"warm-up {epoch + 1}/{epochs}: training loss {logs['train_loss']:.3f}, accuracy "
              f"{100 * logs['train_accuracy']:.1f} %, {time.time() - begin:.0f} s", flush=True)

    model.fit(searcher.alternating_batches(data.train, data.held_out, plan, batch_size, seed), epochs=epochs,
              steps_per_epoch=plan.steps_per_epoch, verbose=0, shuffle=False,
              callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)])
