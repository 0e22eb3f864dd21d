"""Training one supernet on several devices: the strategy, each replica's part of a batch, and means over replicas.

Every replica samples the same path from the same seed, works on its own part of the batch, and applies the mean of
all gradients, so weights and alphas stay equal. Batch norm uses the statistics of the replica's own images, as in the
authors' code.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.data.parts import ALONE, Share
from pnas_tf.errors import InputError

STRATEGIES = ("none", "mirrored", "multi_worker")


def strategy(name: str, replicas: int = 0) -> tf.distribute.Strategy:
    """The devices to train on. Call it once in a process, before any other function of TensorFlow.

    Args:
        name: Name of the strategy: `none` (one device); `mirrored` (several devices of this machine); `multi_worker`
            (one process on each of the machines that the environment variable TF_CONFIG lists).
        replicas: Number of devices of this machine, for `mirrored`; 0 for every GPU. On a machine without a GPU, the
            CPU is split into this number of logical devices.

    Raises:
        InputError: If there are no such devices, or TF_CONFIG is missing or wrong.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        _check_tf_config(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name != "mirrored":
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {name!r}.")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if replicas > len(gpus):
            raise InputError(f"--replicas={replicas}, but this machine has {len(gpus)} GPUs. Give a smaller number.")
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(replicas or len(gpus))])
    if not replicas:
        raise InputError("--strategy=mirrored found no GPU here. Give --replicas=N to split the CPU into N devices.")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])


def is_chief(devices: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder: it is the first of several workers, or the only process."""
    cluster = devices.cluster_resolver
    if cluster is None or not cluster.task_type:
        return True
    first = "chief" if "chief" in cluster.cluster_spec().jobs else "worker"
    return (cluster.task_type, cluster.task_id) == (first, 0)


def check_divides(devices: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises InputError if the replicas cannot share batches of `batch_size` images evenly."""
    count = devices.num_replicas_in_sync
    if batch_size % count:
        raise InputError(f"Batches of {batch_size} images cannot be shared by {count} replicas: "
                         f"--batch_size must be a multiple of {count}.")


def check_agree(devices: tf.distribute.Strategy, number: int, what: str) -> None:
    """Checks that all workers hold the same number; they may not see the same run folder.

    Args:
        devices: Strategy from `strategy`.
        number: Number that this worker holds.
        what: Meaning of the number, for the error message.

    Raises:
        InputError: If the workers hold different numbers.
    """
    if devices.num_replicas_in_sync == 1:
        return
    gather = on_all(devices, lambda: tf.distribute.get_replica_context().all_gather(tf.constant([number]), axis=0))
    numbers = sorted({*gather().numpy().tolist()})
    if len(numbers) > 1:
        raise InputError(f"Workers differ in {what}: {numbers}. All need the same --run_dir, on a shared file system.")


@contextlib.contextmanager
def starting_again(name: str) -> Iterator[None]:
    """Starts this process again, with the same command, when another worker is lost.

    The new process waits until all workers have been started, and the search continues from the last checkpoint.

    Args:
        name: Name of the strategy. With other strategies than `multi_worker`, errors pass unchanged.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
                tf.errors.DeadlineExceededError, tf.errors.InternalError)
        if name != "multi_worker" or not isinstance(error, lost):
            raise
        terminal.say(f"Lost another worker ({type(error).__name__}). Starting again; start the lost worker with its "
                     "own command.")
        os.execv(sys.executable, sys.orig_argv)


def distribute(devices: tf.distribute.Strategy, make_batches: Callable[[Share], tf.data.Dataset]
               ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """A data set for the replicas.

    Args:
        devices: Strategy from `strategy`.
        make_batches: Function from a `Share` to a data set. Each element is one replica's part of a step; the replicas
            of the share take turns.
    """
    if devices.num_replicas_in_sync == 1:
        return make_batches(ALONE)

    def batches_of_worker(context: tf.distribute.InputContext):
        count = context.num_replicas_in_sync // context.num_input_pipelines
        return make_batches(Share(count * context.input_pipeline_id, count, context.num_replicas_in_sync))

    return devices.distribute_datasets_from_function(batches_of_worker)


def on_all(devices: tf.distribute.Strategy, step: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a step that every replica runs, each on its own part of the arguments.

    Args:
        devices: Strategy from `strategy`.
        step: Function from tensors to tensors that are equal on all replicas.

    Returns:
        A function with the arguments of `step`, each a per-replica value or a value that all replicas share. It returns
        the results of the first replica of this process.
    """
    def run(*args):
        return tf.nest.map_structure(local, devices.run(step, args))

    return tf.function(run, autograph=False)


def by_xla(part: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
    """A part of a step that XLA compiles, on a single device; all shapes in it must be known.

    XLA draws other random numbers from the same seed, so samples are drawn outside.

    Args:
        part: Function from tensors to tensors.
        jit_compile: False returns the function as it is.
    """
    return tf.function(part, autograph=False, jit_compile=True) if jit_compile else part


def local(value: Any) -> Any:
    """The first replica's part of a per-replica value; any other value unchanged."""
    return value.values[0] if isinstance(value, tf.distribute.DistributedValues) else value


def mean(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The mean over replicas of each tensor, in one all-reduce of all of them.

        mean = sum over replicas r of value_r / replicas

    Each replica's loss is the mean over its part of the batch, and all parts have the same size, so the result
    is the mean over the whole batch, for losses and for gradients. Every replica has to call it, outside of branches.

    Args:
        values: Tensors, float32, with the same shapes on every replica.

    Returns:
        The means, in the order and with the shapes of `values`.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return list(values)
    flat = tf.concat([tf.reshape(value, [-1]) for value in values], 0)
    flat = context.all_reduce(tf.distribute.ReduceOp.MEAN, flat)
    parts = tf.split(flat, [tf.size(value) for value in values], num=len(values))
    return [tf.reshape(part, tf.shape(value)) for part, value in zip(parts, values, strict=True)]


def share_of_sum(gradient: tf.Tensor) -> tf.Tensor:
    """A replica's share of a gradient that is equal on all replicas, for a Keras optimizer, which sums over them.

        share = gradient / replicas
    """
    return gradient / tf.distribute.get_strategy().num_replicas_in_sync


def _check_tf_config(text: str | None) -> None:
    example = json.dumps({"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}})
    try:
        config = json.loads(text or "")
        addresses = config["cluster"][config["task"]["type"]]
        ok = 0 <= int(config["task"]["index"]) < len(addresses)
    except (ValueError, KeyError, TypeError, RecursionError):
        ok = False
    if not ok:
        raise InputError(f"--strategy=multi_worker needs the environment variable TF_CONFIG with the cluster and this "
                         f"process's task, such as '{example}'; got {(text or 'none')[:100]!r}.")
