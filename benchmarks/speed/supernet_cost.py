"""What a step of the supernet costs, as a ratio to a training step of the same network on its own.

    python -m benchmarks.speed.supernet_cost --space=proxyless_imagenet --image_size=112 --batch_size=16

For each kind of step it prints CPU and wall time (medians over pairs: a step of the supernet, then a plain training
step of the same path), the peak memory above that held between steps, and the seconds until the first step has ended.
Each kind runs in a process of its own.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks.speed import figures
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces

KINDS = ("weight", "two", "all", "reinforce", "weighted_sum", "weight_recompute", "two_recompute")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Figures of one kind of step. Ratios are to the plain training step of the same paths.

    Attributes:
        kind: Kind of step, one of `KINDS`.
        pairs: Number of pairs that medians are taken over.
        cpu_ratio: Ratio of CPU times.
        wall_ratio: Ratio of wall times.
        memory_ratio: Ratio of peak memories, each above that held between steps; NaN, like both peaks, where
            TensorFlow does not count memory: on CPUs it does so with oneDNN alone (TF_ENABLE_ONEDNN_OPTS=1).
        step_peak_mb: Peak memory of the step in MiB, above that held between steps.
        plain_peak_mb: Peak memory of the plain step in MiB, above that held between steps.
        plain_wall_ms: Wall milliseconds of the plain step.
        first_step_s: Seconds of the first step, tracing included.
        rest_mb: Memory of the supernet's weights in MiB.
        trace_rss_mb: Growth of the resident memory during the first step, in MiB.
        retraces: Number of traces after the first.
    """

    kind: str
    pairs: int
    cpu_ratio: float
    wall_ratio: float
    memory_ratio: float
    step_peak_mb: float
    plain_peak_mb: float
    plain_wall_ms: float
    first_step_s: float
    rest_mb: float
    trace_rss_mb: float
    retraces: int


def measure(search_space: blocks.Space, kind: str, batch_size: int, paths: int, repeats: int, seed: int,
            share: str = "none") -> Cost:
    """Times one kind of step against training steps of plain networks.

    Args:
        search_space: Space of the supernet.
        kind: Kind of step, one of `KINDS`.
        batch_size: Images per step.
        paths: Number of different paths. Each needs a plain network of its own.
        repeats: Number of pairs per path. The first is not counted.
        seed: Seed of paths, images and weights.
        share: What the ops of a block share, see `Supernet`.
    """
    import numpy as np
    import tensorflow as tf

    from pnas_tf.supernet import supernet

    rng = np.random.default_rng(seed)
    shape = (batch_size, search_space.input_size, search_space.input_size, search_space.input_channels)
    images = tf.constant(rng.normal(size=shape), tf.float32)
    labels = tf.constant(rng.integers(0, search_space.num_classes, batch_size), tf.int32)
    counts = [len(block.ops) for block in search_space.choices.values()]
    sampled = [np.array([rng.integers(count) for count in counts], np.int32) for _ in range(paths)]

    supernet.set_graph_optimiser(False)
    net = supernet.Supernet(search_space, seed, recompute=kind.endswith("_recompute"), share=share)
    # Counted by hand: a variable that keeps the host's array that it was made from is unknown to the allocator.
    rest_mb = sum(4 * math.prod(weight.shape) for weight in net.weights) / 2**20
    step = _steps()[kind](net, images, labels)
    rss = figures.rss_mb()
    begin = time.perf_counter()
    step(sampled[0])
    first_step_s, trace_rss_mb = time.perf_counter() - begin, figures.rss_mb() - rss
    plain = [_plain_step(net.arch(path), images, labels) for path in sampled]
    rows = []
    for _ in range(repeats):
        for path, twin in zip(sampled, plain, strict=True):
            supernet.set_graph_optimiser(True)  # For the plain network only: a search turns it off for the supernet.
            plain_step = figures.measure(twin)
            supernet.set_graph_optimiser(False)
            rows.append((figures.measure(functools.partial(step, path)), plain_step))
    rows = rows[paths:]  # The first round warms up.

    def ratio(field):
        return statistics.median(getattr(own, field) / getattr(other, field) for own, other in rows)

    return Cost(kind, len(rows), ratio("cpu_s"), ratio("wall_s"), ratio("peak_mb"),
                statistics.median(own.peak_mb for own, _ in rows),
                statistics.median(other.peak_mb for _, other in rows),
                1e3 * statistics.median(other.wall_s for _, other in rows), first_step_s, rest_mb, trace_rss_mb,
                step.traces() - 1)


class _Traced:
    """A compiled step of a path that counts its traces and waits for its result."""

    def __init__(self, function):
        """Compiles a function from a path, int32 [choices], to a tensor."""
        import tensorflow as tf

        self._count = 0

        def counted(path):
            self._count += 1
            return function(path)

        self._compiled = tf.function(counted, autograph=False)

    def __call__(self, path):
        import tensorflow as tf

        self._compiled(tf.constant(path)).numpy()

    def traces(self) -> int:
        return self._count


def _steps():
    """For each kind a function (supernet, images, labels) -> step of a path."""
    two, every = functools.partial(_gated, paths="two"), functools.partial(_gated, paths="all")
    return {"weight": weight_step, "two": two, "all": every, "reinforce": _forward, "weighted_sum": _weighted_sum,
            "weight_recompute": weight_step, "two_recompute": two}


def weight_step(net: Any, images: Any, labels: Any) -> Callable[[Any], object]:
    """A compiled weight step of a supernet, without augmentation: a function of the path, int32 [choices]."""
    import tensorflow as tf

    from pnas_tf.network.evaluate import cross_entropy

    def step(path):
        probes = net.probes()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(probes)
            loss = cross_entropy(labels, net.run_path(images, path, probes))
        net.update(path, tape.gradient(loss, probes), tf.constant(0.01), 0.9, 4e-5)
        return loss

    return _Traced(step)


def _gated(net, images, labels, paths):
    import numpy as np
    import tensorflow as tf

    from pnas_tf.search import observers
    from pnas_tf.supernet import gates

    counts = net.mask.sum(1).astype(np.int32)

    def step(path):
        if paths == "two":
            involved = tf.stack([path, (path + 1) % counts], axis=1)
            rows, _, loss, _ = observers.gate_gradients(net, images, labels, path,
                                                            [[pair[1]] for pair in tf.unstack(involved)])
            gradient = tf.stack(rows)
        else:
            involved = tf.where(net.mask, tf.range(net.mask.shape[1])[None], -1)
            gradient, _, loss, _ = observers.all_gate_gradients(net, images, labels, path)
        net.alpha.assign_sub(1e-3 * gates.alpha_gradient(net.alpha.value, involved, gradient))
        return loss

    return _Traced(step)


def _forward(net, images, labels):
    from pnas_tf.network.evaluate import cross_entropy

    return _Traced(lambda path: cross_entropy(labels, net(images, path)))


def _weighted_sum(net, images, labels):
    """A step of DARTS: the softmax-weighted sum of all ops, all weights and alphas trained. The method to beat."""
    import tensorflow as tf

    from pnas_tf.network.evaluate import cross_entropy
    from pnas_tf.supernet.mixed_op import new_probe

    candidates = [c for mixed_op in net.mixed_ops for c in mixed_op.candidates if c]

    def mixed(mixed_op, x, row, probes, alpha):
        outputs = [c.run(x, probe=probes[c.prefix], update_stats=True) for c in mixed_op.candidates if c]
        if row is not None:
            weights = tf.nn.softmax(alpha[row, :len(mixed_op.candidates)])
            outputs = [weights[number] * output for number, output in enumerate(outputs)]
        y = tf.add_n(outputs)
        return x + y if mixed_op.block.shortcut else y

    def step(path):
        alpha = tf.convert_to_tensor(net.alpha.value)
        probes = {c.prefix: new_probe() for c in candidates}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([probes, alpha])
            mixed_ops, rows = iter(net.mixed_ops), itertools.count()

            def run(block, values):
                x = values[0] if len(values) == 1 else tf.add_n(values)
                return mixed(next(mixed_ops), x, next(rows) if len(block.ops) > 1 else None, probes, alpha)

            loss = cross_entropy(labels, net.space.thread(images, run))
        gradients, alpha_gradient = tape.gradient(loss, [probes, alpha])
        for candidate in candidates:
            candidate.update(gradients[candidate.prefix], tf.constant(0.01), 0.9, 4e-5)
        net.alpha.assign_sub(1e-3 * alpha_gradient)
        return loss

    return _Traced(step)


def _plain_step(arch: arch_lib.Arch, images, labels):
    """Training step of a plain Keras network, as fast as possible: fast layers, fused update, a graph of its own."""
    import tensorflow as tf

    from pnas_tf import network
    from pnas_tf.network.evaluate import cross_entropy

    model = network.build_network(arch)
    slots = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in model.trainable_variables]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
        for variable, slot, gradient in zip(model.trainable_variables, slots,
                                            tape.gradient(loss, model.trainable_variables), strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.value.handle, accum=slot.handle, lr=0.01, momentum=0.9, use_nesterov=True,
                grad=gradient + 4e-5 * variable.value.read_value())
        return loss

    return lambda: step().numpy()


def show(costs: list[Cost]) -> str:
    """The figures as a table."""
    lines = [f"{'step':<18}{'CPU time':>9}{'wall':>7}{'memory':>8}{'peak MB':>9}{'first step':>12}{'pairs':>7}"]
    for cost in costs:
        memory = f"{cost.memory_ratio:>7.2f}x{cost.step_peak_mb:>9.0f}" if cost.step_peak_mb >= 0 else f"{'-':>17}"
        lines.append(f"{cost.kind:<18}{cost.cpu_ratio:>8.2f}x{cost.wall_ratio:>6.2f}x{memory}"
                     f"{cost.first_step_s:>10.1f} s{cost.pairs:>7}")
    peak_mb = statistics.median(cost.plain_peak_mb for cost in costs)
    peak = f"{peak_mb:.0f} MB above rest" if peak_mb >= 0 else "memory not counted (TF_ENABLE_ONEDNN_OPTS=1 counts it)"
    lines.append(f"plain step: {statistics.median(c.plain_wall_ms for c in costs):.0f} ms, {peak}; "
                 f"supernet at rest {costs[0].rest_mb:.0f} MB; tracing took up to "
                 f"{max(c.trace_rss_mb for c in costs):.0f} MB of host memory; "
                 f"{sum(c.retraces for c in costs)} retraces.")
    return "\n".join(lines)


def _define_flags() -> None:
    flags.DEFINE_string("space", "proxyless_imagenet", "Name of a space, or path of a JSON file.")
    flags.DEFINE_integer("image_size", 112, "Height and width of the images.", 1)
    flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
    flags.DEFINE_list("kinds", list(KINDS), f"Kinds of step to measure, of {', '.join(KINDS)}.")
    flags.DEFINE_integer("paths", 4, "Number of different paths.", 1)
    flags.DEFINE_integer("repeats", 9, "Number of pairs per path; the first is not counted.", 2)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.")
    flags.DEFINE_enum("share", "none", ("none", "kernels"), "What the ops of a block share.")
    flags.DEFINE_string("output", None, "JSON file for the figures.")
    flags.DEFINE_bool("in_process", False,
                      "Measures the first kind in this process and prints JSON; the command itself uses this.")


def _main() -> None:
    f = flags.FLAGS
    chosen = spaces.load(f.space)
    chosen = chosen.for_data(f.image_size, chosen.input_channels, chosen.num_classes)
    if chosen.width_choices and "weighted_sum" in f.kinds:
        kinds = ",".join(kind for kind in f.kinds if kind != "weighted_sum")
        raise InputError(f"weighted_sum adds up the outputs of all ops, and {chosen.name} searches filters, which make "
                         f"outputs of different shapes. Measure the other kinds: --kinds={kinds}")
    if f.in_process:
        start.load_tensorflow()
        print(json.dumps(dataclasses.asdict(measure(chosen, f.kinds[0], f.batch_size, f.paths, f.repeats, f.seed,
                                                    f.share))))
        return
    costs = []
    for kind in f.kinds:
        print(f"Measuring {kind} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.speed.supernet_cost", "--in_process", f"--kinds={kind}",
                   *(f"--{name}={getattr(f, name)}" for name in ("space", "image_size", "batch_size", "paths",
                                                                  "repeats", "seed", "share"))]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
        costs.append(Cost(**json.loads(result.stdout.splitlines()[-1])))
    print(f"{chosen.name}, {f.image_size} px, batch {f.batch_size}, {os.cpu_count()} cores")
    print(show(costs))
    if f.output:
        files.write_text(f.output, json.dumps([dataclasses.asdict(cost) for cost in costs], indent=1) + "\n")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
