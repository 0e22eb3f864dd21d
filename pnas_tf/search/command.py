"""The command `python -m pnas_tf.search`: its flags, and what it prints."""

import dataclasses
import hashlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from pnas_tf import search
from pnas_tf.cli import settings as shared_flags
from pnas_tf.cli import start
from pnas_tf.cost import latency_table
from pnas_tf.cost.goal import feasible
from pnas_tf.errors import InputError
from pnas_tf.report import facts as run_facts
from pnas_tf.run_folder import RunFolder, claim, versions
from pnas_tf.search import schedule, stopping
from pnas_tf.search.run import run
from pnas_tf.space import blocks, spaces


def define_flags() -> None:
    """Those of the command, and of others that search."""
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Multiplies all widths of the space.", 0.05, 20)
    flags.DEFINE_string("dataset", "fashion_mnist_small",
                        "fashion_mnist_small, fashion_mnist, cifar10, npz:PATH, folder:PATH or tfds:NAME.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are.")
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: that of the space.", 0, 8192)
    shared_flags.define_data()
    flags.DEFINE_integer("held_out_size", 0, "Training images kept for alpha; 0: chosen by the data set's size.", 0)
    flags.DEFINE_string("table", None, "Latency table: a file, or the name of a shipped one.")
    flags.DEFINE_float("target_ms", 0.0, "Wanted milliseconds, never exceeded; 0: 0.75 of a random network's.", 0)
    flags.DEFINE_list("targets", [], "Several at once, in place of --table and --target_ms: TABLE:MS,TABLE:MS,... One "
                      "supernet is trained, and a network found for each.")
    flags.DEFINE_multi_string("limit", [], "A further limit, never exceeded: params<=3e6, macs<=3e8, size_bytes<=4e6 "
                              "(of the .tflite) or peak_activation_bytes<=5e5; may be repeated.")
    flags.DEFINE_enum("latency_loss", "lagrangian", ["lagrangian", "add_linear", "mul_log", "none"],
                      "How expected latency joins the loss of the architecture step.")
    flags.DEFINE_float("latency_strength", 0.1, "Weight of the latency term of add_linear.", 0)
    flags.DEFINE_enum("arch_update", "gradient", ["gradient", "reinforce"], "How alpha learns.")
    flags.DEFINE_enum("paths", "two", ["two", "all"], "Ops observed in a gradient step.")
    flags.DEFINE_enum("active_draw", "even", ["even", "softmax"],
                      "Which op of a sampled pair is active: either, or by their probabilities.")
    flags.DEFINE_enum("expected_latency", "full", ["full", "pair"],
                      "Told to the loss: the network's expectation, or that over the sampled pairs alone.")
    flags.DEFINE_enum("reward", "abs", ["paper", "mnas", "abs"], "What reinforce raises.")
    flags.DEFINE_integer("reinforce_samples", 10, "Networks sampled for an update of reinforce.", 1)
    flags.DEFINE_string("init_weights", "", "Weights to start from: the folder of an earlier search, or a .keras file "
                        "of a trained or imported network; ops that it lacks start anew.")
    flags.DEFINE_integer("batch_size", 256, "Images a step.", 1)
    flags.DEFINE_integer("warmup_epochs", 40, "Epochs before alpha starts to learn.", 0)
    flags.DEFINE_integer("search_epochs", 120, "Epochs with architecture steps.", 1)
    flags.DEFINE_integer("arch_every", 5, "Weight steps for each architecture step.", 1)
    flags.DEFINE_float("warmup_lr", 0.05, "Learning rate at the start of the warm-up.", 0)
    flags.DEFINE_float("lr", 0.025, "Learning rate at the start of the search.", 0)
    flags.DEFINE_float("alpha_lr", 0.0, "Learning rate of alpha; 0: scaled to the number of steps.", 0)
    flags.DEFINE_float("label_smoothing", 0.1, "Of the weight steps.", 0, 1)
    flags.DEFINE_float("weight_decay", 4e-5, "Of the weights.", 0)
    flags.DEFINE_enum("memory", "keep", ["keep", "recompute"],
                      "What gradients need: kept, or computed again (less memory, more time).")
    flags.DEFINE_enum("precision", "float32", shared_flags.PRECISIONS,
                      "What ops compute in; weights, gates and alpha are float32 in each.")
    flags.DEFINE_enum("strategy", "none", ["none", "mirrored", "multi_worker"],
                      "Devices: one, several of this machine, or several machines by TF_CONFIG.")
    flags.DEFINE_integer("replicas", 0, "mirrored: devices to use; 0: every GPU.", 0, 64)
    flags.DEFINE_integer("bn_recalibration_batches", 20,
                         "Training batches that set the found network's batch norm statistics; 0: those of the search.",
                         0)
    flags.DEFINE_integer("trials", 0, "Networks, of those the search suggests, that are trained from scratch for a "
                         "while before one is taken; 0: the one of lowest loss with the supernet's weights.", 0, 64)
    flags.DEFINE_integer("trial_epochs", 5, "Of each of --trials.", 1)
    flags.DEFINE_integer("max_steps", 0, "Squeezes the whole search into so many weight steps: a trial run.", 0)
    flags.DEFINE_integer("seed", 0, "Of initial weights, data order and sampled paths.", 0, 2**31 - 1)
    flags.DEFINE_string("run_dir", None, "Folder of the results.")
    flags.DEFINE_float("checkpoint_minutes", 10.0, "Between checkpoints, at most; 0: only at the end of epochs.", 0)
    flags.DEFINE_bool("overwrite", False, "If --run_dir holds a run with other flags: removes its files, in place of "
                      "refusing. With the same flags the run goes on all the same.")


def by_flags(timer: Callable[[latency_table.LatencyTable, blocks.Space], Any] | None = None) -> None:
    """All of the command, once its flags are parsed.

    Args:
        timer: makes the `device_check.Timer` of a table's device, for networks of a space; None: finalists are not
            timed, the tables decide alone.
    """
    f = flags.FLAGS
    search_space = spaces.load(f.space).scaled(f.width_mult)
    wanted = [_target(text) for text in f.targets] or [(_table(f.table, f.space), f.target_ms)]
    start.load_tensorflow()
    from pnas_tf.search import replicas

    with replicas.starting_again(f.strategy):
        devices = replicas.strategy(f.strategy, f.replicas)
        archs = _search(search_space, wanted, devices, timer)
        if not replicas.is_chief(devices):
            print("Done; the first worker has written the results.")
            return
    for arch, folder in archs:
        print(_summary(arch, folder))


def _target(text):
    """Table and milliseconds of TABLE:MS."""
    name, _, value = text.rpartition(":")
    try:
        ms = float(value)
    except ValueError:
        ms = 0.0
    if not name or not 0 < ms < 1e9:
        raise InputError(f"--targets reads TABLE:MS,TABLE:MS,... with a table's file or name and milliseconds above 0, "
                         f"got {text[:80]!r}.")
    return latency_table.read(name), ms


def _table(name, space_name):
    if not name:
        raise InputError("Name the latency table of your device: --table=FILE. Make one with "
                         f"python -m latency.build_table --space={space_name} --measurer=host --output=FILE, or use "
                         f"a shipped one: {', '.join(latency_table.names()) or 'none'}.")
    return latency_table.read(name)


def _summary(arch, folder):
    facts = run_facts.collect(folder)
    costs, where = arch.costs, shlex.quote(folder)
    wanted = f"target {facts.target_ms:.3g} ms" if facts.target_ms else "latency was free"
    said = [f"\n{arch.draw()}\n\nFound: {costs['params']:,} parameters, {costs['macs']:,} MACs, "
            f"{costs['table_ms']:.3g} ms by the table of {costs['target']}"
            + (f", {costs['measured_ms']:.3g} ms measured" if "measured_ms" in costs else "") + f" ({wanted})."]
    said += [f"Warning: {text}" for text in run_facts.warnings(facts)]
    return "\n".join([*said, f"Results: {os.path.join(folder, 'arch.json')}",
                      f"Next:    python -m pnas_tf.train --run_dir={where}"])


def _search(search_space, wanted, devices, timer):
    from pnas_tf import data as data_lib
    from pnas_tf.cost import limits
    from pnas_tf.search import build as search_build
    from pnas_tf.search import replicas

    f = flags.FLAGS
    bounds = [limits.parse(text) for text in f.limit]
    data = data_lib.load(f.dataset, image_size=f.image_size or search_space.input_size,
                         held_out_size=f.held_out_size or None, seed=f.seed, data_dir=f.data_dir,
                         broken_images=f.broken_images)
    if f.class_weights == "none" and (said := data_lib.imbalance(data.train)):
        print(said)
    search_space = search_space.for_data(data.image_shape[0], data.image_shape[2], data.num_classes)
    search_space = limits.within_peaks(search_space, bounds, [table.header.get("dtype") for table, _ in wanted])
    goals, additive = [], [(name, bound) for name, bound in bounds if name != limits.PEAK]
    for table, target_ms in wanted:
        table.check_covers(search_space)
        _warn_classifier(table, search_space)
        print(_accuracy(table, search_space))
        goals.append(feasible(search_space, table, target_ms, additive, f.latency_loss != "none"))
    if len({one.name for one in goals}) < len(goals):
        raise InputError("--targets names a table twice with the same milliseconds.")
    batch_size = min(f.batch_size, data.train.size)
    if batch_size < f.batch_size:
        print(f"Batches of {batch_size}: there are no more training images.")
    replicas.check_divides(devices, batch_size)
    plan = schedule.Schedule(data.train.steps_per_epoch(batch_size), f.warmup_epochs,
                             f.search_epochs, f.arch_every, f.warmup_lr, f.lr)
    plan = plan.squeezed(f.max_steps) if f.max_steps else plan
    chief, inputs = replicas.is_chief(devices), _inputs(search_space, goals, data)
    timers = [timer(table, search_space) for table, _ in wanted] if timer and chief else []
    with (stopping.signals() as stop,
          claim.claimed(f.run_dir, start.as_text(), inputs, overwrite=f.overwrite, alone=chief)):
        try:
            if chief:
                versions.note(f.run_dir)
            archs = run(search_space=search_space, goals=goals, data=data, plan=plan, run_dir=f.run_dir,
                        method=search_build.Method(**{field.name: f[field.name].value
                                             for field in dataclasses.fields(search_build.Method)}),
                        batch_size=batch_size, label_smoothing=f.label_smoothing, weight_decay=f.weight_decay,
                        recompute=f.memory == "recompute", precision=f.precision, devices=devices,
                        bn_recalibration_batches=f.bn_recalibration_batches, class_weights=f.class_weights,
                        cutout=f.cutout, init_weights=f.init_weights, timers=timers, trials=f.trials,
                        trial_epochs=f.trial_epochs, seed=f.seed, checkpoint_minutes=f.checkpoint_minutes, stop=stop)
        except KeyboardInterrupt:
            print(f"\nStopped. The same command goes on from the last checkpoint in {f.run_dir}.", flush=True)
            if stop.signal == signal.SIGTERM:
                sys.exit(128 + signal.SIGTERM)
            raise
    folders = [f.run_dir] if len(goals) == 1 else [RunFolder(f.run_dir).file(one.name) for one in goals]
    return list(zip(archs, folders, strict=False))  # another worker than the first has no archs


def _inputs(search_space, goals, data):
    """What the files named by flags held, as far as the result depends on it."""
    def digest(content):
        return hashlib.sha256(content).hexdigest()[:16]

    return {"space": digest(json.dumps(search_space.to_json(), sort_keys=True).encode()),
            "training images": str(data.train.size), "held-out images": str(data.held_out.size),
            **{f"milliseconds on {one.target}": digest(one.ms.matrix.tobytes() + str(one.ms.fixed).encode())
               for one in goals}}


def _accuracy(table, search_space):
    """How far the table's predictions were off, or a warning that nobody knows."""
    entry = table.accuracy(search_space) or {}
    shares = [entry.get(name) for name in ("within_5_percent", "within_10_percent", "rmse_of_mean")]
    if not all(isinstance(share, float | int) for share in shares):
        return (f"Warning: how well table {table.target} predicts networks of {search_space.name} is not known. Find "
                f"out: python -m latency.compare --table={table.file} {latency_table.space_flags(search_space)}")
    return (f"Table {table.target} predicted {shares[0]:.0%} of whole networks within 5 % and {shares[1]:.0%} within "
            f"10 %, RMSE {shares[2]:.1%} of the mean.")


def _warn_classifier(table, search_space):
    block, key = list(search_space.op_keys())[-1]
    classes = table.row(block.name, key)["filters"]
    if classes != key.filters:
        print(f"Table {table.target} has no classifier of {key.filters} classes: it is priced as one of {classes}.")


def main() -> None:
    """Console script."""
    define_flags()
    start.start(by_flags, manual=search.__doc__)
