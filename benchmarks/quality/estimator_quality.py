"""Estimates by gate gradients against the truth: how much does the held-out loss change when one op is swapped?

    python -m benchmarks.quality.estimator_quality --supernet=warm.weights.h5 --json=quality.json --plot=quality.png
    python -m benchmarks.quality.estimator_quality --space=cifar_mb --dataset=cifar10 --data_dir=/data/cifar10

Warms up a supernet, or reads one, and draws random paths. In each path it replaces the op of each choice by every other
op of that choice, and measures the loss on the same held-out images with batch statistics. So for each swap of two ops
the true change of loss is known, and it is compared with three estimates:

- one-sided: measured while the first op is active;
- two-sided: the mean of both sides, which steps with --active_draw=even give in expectation, with two paths or all;
- all-path, softmax: the mean over uniformly drawn active ops, as in the authors' code.

A second table compares the mean gradient of alpha by each kind of architecture step with the exact gradient of the
expected loss of a choice.
"""

import functools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks.quality import estimators, warm_supernet
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.space import ops, spaces

KINDS = ("no shortcut", "shortcut, op to op", "shortcut, op to zero")
ESTIMATES = ("one-sided", "two-sided", "all-path, softmax")
# Standard deviations of the alphas in the second table. 0 is the start of a search.
ALPHA_DEVIATIONS = (0.0, 1.0, 2.0)


def measure(net, batches: Sequence[tuple[Any, Any]], paths: int, seed: int) -> Iterator[dict[str, Any]]:
    """Measures losses and gate gradients of every op of every choice, around random paths.

    Args:
        net: The `Supernet`.
        batches: Pairs (images, labels). Losses and gradients are means over them.
        paths: Number of random paths.
        seed: Seed of the paths.

    Yields:
        For each path and choice: path, choice, shortcut, ops, losses [ops], gate_gradients [active op][op].
    """
    import tensorflow as tf

    from pnas_tf.search import observers

    @tf.function(autograph=False)
    def observe(images, labels, path):
        gradients, _, loss, _ = observers.all_gate_gradients(net, images, labels, path)
        return gradients, loss

    def mean(path):
        observed = [observe(images, labels, tf.constant(path)) for images, labels in batches]
        return tuple(np.mean([np.asarray(part, np.float64) for part in column], axis=0)
                     for column in zip(*observed, strict=True))

    rng = np.random.default_rng(seed)
    counts = net.mask.sum(1)
    for number in range(paths):
        path = rng.integers(counts).astype(np.int32)
        at_path = mean(path)
        for row, block in enumerate(block for block in net.space.all_blocks if block.name in net.space.choices):
            of_ops = []
            for op in range(counts[row]):
                changed = path.copy()
                changed[row] = op
                of_ops.append(at_path if op == path[row] else mean(changed))
            yield {"path": number, "choice": block.name, "shortcut": block.shortcut, "ops": list(block.ops),
                   "losses": [float(loss) for _, loss in of_ops],
                   "gate_gradients": [gradients[row, :counts[row]].tolist() for gradients, _ in of_ops]}


def swaps(blocks: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Every pair of ops of every measured choice as one swap.

    Args:
        blocks: Measured choices, from `measure`.
        seed: Seed of the direction of each swap. A swap with `zero` always goes from the op to `zero`.

    Returns:
        For each swap: kind (of `KINDS`), true (change of loss), and each of `ESTIMATES`.
    """
    rng = np.random.default_rng(seed)
    swapped = []
    for block in blocks:
        losses, gradients = np.array(block["losses"]), np.array(block["gate_gradients"])
        count = len(losses)
        sides = {"one-sided": estimators.one_sided(gradients), "two-sided": estimators.two_sided(gradients),
                 "all-path, softmax": estimators.averaged(np.full(count, 1 / count), gradients)}
        for first in range(count):
            for second in range(first + 1, count):
                a, b = (first, second) if rng.integers(2) else (second, first)
                if block["ops"][a] == ops.ZERO:
                    a, b = b, a
                kind = KINDS[0] if not block["shortcut"] else KINDS[2 if block["ops"][b] == ops.ZERO else 1]
                swapped.append({"kind": kind, "true": losses[b] - losses[a],
                                **{name: float(side[a, b]) for name, side in sides.items()}})
    return swapped


def quality(true: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """How good an estimate is.

    Args:
        true: True changes of loss, float64 [swaps].
        estimate: Estimated changes, float64 [swaps].

    Returns:
        The mean and standard deviation (sd) of the estimate, its correlation with the true change, the share of right
        signs (sign_right), and the slope of the regression of the true change on the estimate.
    """
    return {"mean": float(np.mean(estimate)), "sd": float(np.std(estimate)),
            "correlation": float(np.corrcoef(true, estimate)[0, 1]),
            "sign_right": float(np.mean(np.sign(true) == np.sign(estimate))),
            "slope": float(np.polyfit(estimate, true, 1)[0])}


def gradient_quality(blocks: Sequence[dict[str, Any]], deviation: float, seed: int) -> dict[str, dict[str, float]]:
    """How near the mean gradient by each kind of architecture step is to the exact gradient.

    Args:
        blocks: Measured choices, from `measure`.
        deviation: Standard deviation of the alphas, which are normal.
        seed: Seed of the alphas.

    Returns:
        For each kind of step, over the measured choices: cosine (mean), cosine_low (tenth percentile), and length
        (median ratio to the exact gradient).
    """
    ways = {f"{paths}, {draw}": functools.partial(mean_gradient, active_draw=draw)
            for paths, mean_gradient in (("two paths", estimators.two_path), ("all paths", estimators.all_path))
            for draw in ("even", "softmax")}
    rng = np.random.default_rng(seed)
    cosines: dict[str, list[float]] = {way: [] for way in ways}
    lengths: dict[str, list[float]] = {way: [] for way in ways}
    for block in blocks:
        alpha = deviation * rng.standard_normal(len(block["ops"]))
        probs = np.exp(alpha) / np.exp(alpha).sum()
        exact = estimators.exact(probs, np.array(block["losses"]))
        for way, mean_gradient in ways.items():
            gradient = mean_gradient(probs, np.array(block["gate_gradients"]))
            length = float(np.linalg.norm(gradient) / np.linalg.norm(exact))
            cosines[way].append(gradient @ exact / (length * np.linalg.norm(exact) ** 2))
            lengths[way].append(length)
    return {way: {"cosine": float(np.mean(cosines[way])), "cosine_low": float(np.percentile(cosines[way], 10)),
                  "length": float(np.median(lengths[way]))} for way in ways}


def summarise(blocks: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Both tables as values.

    Args:
        blocks: Measured choices, from `measure`.
        seed: Seed of the directions of swaps, and of the alphas.

    Returns:
        swaps: By kind of swap: count, true_mean, true_sd, and for each estimate the result of `quality`.
        gradients: By standard deviation of the alphas the result of `gradient_quality`.
    """
    every = swaps(blocks, seed)
    by_kind = {"all": every} | {kind: [swap for swap in every if swap["kind"] == kind] for kind in KINDS}
    tables = {}
    for kind, rows in by_kind.items():
        if len(rows) > 2:
            true = np.array([row["true"] for row in rows])
            tables[kind] = {"count": len(rows), "true_mean": float(true.mean()), "true_sd": float(true.std()),
                            **{name: quality(true, np.array([row[name] for row in rows])) for name in ESTIMATES}}
    return {"swaps": tables, "gradients": {str(deviation): gradient_quality(blocks, deviation, seed)
                                           for deviation in ALPHA_DEVIATIONS}}


def show(summary: dict[str, Any]) -> str:
    """Both tables as text."""
    lines = [f"{'swaps':<34}{'mean':>10}{'sd':>9}{'corr':>7}{'sign right':>12}{'slope':>7}"]
    for kind, table in summary["swaps"].items():
        lines.append(f"{kind} ({table['count']})".ljust(34) + f"{table['true_mean']:>+10.5f}{table['true_sd']:>9.5f}")
        for name in ESTIMATES:
            figures = table[name]
            lines.append(f"  {name:<32}{figures['mean']:>+10.5f}{figures['sd']:>9.5f}{figures['correlation']:>7.3f}"
                         f"{100 * figures['sign_right']:>10.1f} %{figures['slope']:>7.2f}")
    lines.append(f"\n{'mean gradient of alpha':<34}{'cosine':>10}{'10th perc.':>12}{'length':>9}")
    for deviation, table in summary["gradients"].items():
        for way, figures in table.items():
            lines.append(f"{way}, alphas of sd {deviation}".ljust(34)
                         + f"{figures['cosine']:>10.3f}{figures['cosine_low']:>12.3f}{figures['length']:>9.2f}")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Writes a scatter plot of true against estimated changes of loss, with a panel for each estimate.

    Args:
        rows: Swaps, from `swaps`.
        path: PNG file to write.
    """
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(ESTIMATES), sharey=True), ESTIMATES, strict=True):
        for kind, marker in zip(KINDS, "o^x", strict=True):
            points = [(row[name], row["true"]) for row in rows if row["kind"] == kind]
            axes.scatter(*zip(*points, strict=True) if points else ([], []), s=12, marker=marker, label=kind, alpha=0.7)
        axes.axline((0, 0), slope=1, color="black", linewidth=0.8)
        axes.set_title(name)
        axes.set_xlabel("estimated change of held-out loss")
    figure.axes[0].set_ylabel("true change of held-out loss")
    figure.axes[0].legend(frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    files.write_bytes(path, png.getvalue())


def run(search_space: blocks_lib.Space, data, warm_up: warm_supernet.WarmUp, *, images: int, eval_batch_size: int,
        paths: int) -> list[dict[str, Any]]:
    """Warms up a supernet, or reads one, and measures.

    Args:
        search_space: Space, fitted to the data.
        data: Data set, from `data.load`.
        warm_up: Settings of the warm-up, whose seed is that of held-out batches and paths, too.
        images: Number of held-out images that losses are measured on.
        eval_batch_size: Held-out images per batch.
        paths: Number of random paths.

    Returns:
        Measured choices, see `measure`.
    """
    from pnas_tf.supernet import supernet as supernet_lib

    supernet_lib.set_graph_optimiser(False)
    net = warm_supernet.warmed(search_space, data, warm_up)
    held_out = data.held_out.batches(eval_batch_size, seed=warm_up.seed + 2)
    batches = list(held_out.take(max(1, images // eval_batch_size)))
    blocks = []
    for block in measure(net, batches, paths, warm_up.seed):
        blocks.append(block)
        print(f"path {block['path'] + 1}/{paths}, {block['choice']}: losses {min(block['losses']):.4f} to "
              f"{max(block['losses']):.4f}", flush=True)
    return blocks


def _define_flags() -> None:
    warm_up = warm_supernet.WarmUp
    flags.DEFINE_string("space", "quickstart", "Name of a space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Factor of all widths of the space.", 0.05, 20)
    flags.DEFINE_string("dataset", "fashion_mnist_small", "Data set, as in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files.")
    flags.DEFINE_string("supernet", warm_up.file,
                        "File of the warmed-up weights, FILE.weights.h5: read if it exists, else written.")
    flags.DEFINE_integer("warmup_epochs", warm_up.epochs, "Epochs of the warm-up.", 1)
    flags.DEFINE_integer("batch_size", warm_up.batch_size, "Images per step of the warm-up.", 2)
    flags.DEFINE_float("lr", warm_up.lr, "Learning rate at the start of the warm-up.", 0)
    flags.DEFINE_integer("images", 500, "Number of held-out images that losses are measured on.", 2)
    flags.DEFINE_integer("eval_batch_size", 250, "Held-out images per batch.", 2)
    flags.DEFINE_integer("paths", 3, "Number of random paths.", 1)
    flags.DEFINE_integer("seed", warm_up.seed, "Seed of weights, batches and paths.", 0, 2**31 - 1)
    flags.DEFINE_string("json", None, "JSON file for all figures.")
    flags.DEFINE_string("plot", None, "PNG file for the scatter plot.")


def _main() -> None:
    f = flags.FLAGS
    search_space = spaces.load(f.space).scaled(f.width_mult)
    start.load_tensorflow()
    from pnas_tf import data as data_lib

    data = data_lib.load(f.dataset, image_size=search_space.input_size, seed=f.seed, data_dir=f.data_dir,
                         normalisation=search_space.normalisation)
    search_space = search_space.fitted_to(data)
    warm_up = warm_supernet.WarmUp(f.supernet, f.warmup_epochs, f.batch_size, f.lr, f.seed)
    blocks = run(search_space, data, warm_up, images=f.images,
                 eval_batch_size=min(f.eval_batch_size, f.images, data.held_out.size), paths=f.paths)
    summary = summarise(blocks, f.seed)
    print(f"\n{search_space.name}, {data.name}, {f.images} held-out images, {f.paths} paths, {os.cpu_count()} cores\n"
          + show(summary))
    if f.json:
        files.write_text(f.json, json.dumps({**summary, "blocks": blocks}, indent=1) + "\n")
    if f.plot:
        plot(swaps(blocks, f.seed), f.plot)
    print("\n".join(f"Results: {path}" for path in (f.json, f.plot) if path))


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
