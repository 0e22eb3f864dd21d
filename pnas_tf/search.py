"""Searches the best network for a data set on a device.

    python -m pnas_tf.search --flagfile=quickstart.flags --run_dir=runs/quickstart

Writes run.flags, arch.json (each epoch), metrics.jsonl, logs/ (TensorBoard), checkpoints/ and
inherited.weights.h5 into --run_dir. The same command on the same folder goes on where it was stopped.
"""

import dataclasses
import os
from typing import Any

from absl import flags

from pnas_tf import arch as arch_lib
from pnas_tf import latency_table, run_flags, run_folder, schedule, space
from pnas_tf.errors import InputError

# Of what a random network of the space takes: where to aim if no target is given.
DEFAULT_TARGET = 0.75

# Held-out batches that score the most probable network after each epoch.
VALIDATION_BATCHES = 10


@dataclasses.dataclass(frozen=True)
class Method:
    """How alpha learns; the defaults are those of the flags.

    Attributes:
        target_ms: wanted milliseconds, or 0 for `DEFAULT_TARGET`.
        latency_loss: one of `cost.LATENCY_LOSSES`.
        latency_strength: of add_linear.
        arch_update: gradient or reinforce.
        paths: two or all.
        active_draw: even or softmax.
        expected_latency: full or pair.
        reward: one of `cost.REWARDS`, for reinforce.
        reinforce_samples: networks of an update, for reinforce.
        alpha_lr: 0 to scale it to the number of steps.
    """

    target_ms: float = 0.0
    latency_loss: str = "lagrangian"
    latency_strength: float = 0.1
    arch_update: str = "gradient"
    paths: str = "two"
    active_draw: str = "even"
    expected_latency: str = "full"
    reward: str = "paper"
    reinforce_samples: int = 10
    alpha_lr: float = 0.0


def run(*, search_space: space.Space, table: latency_table.LatencyTable, data: Any, plan: schedule.Schedule,
        run_dir: str, method: Method | None = None, batch_size: int = 256, label_smoothing: float = 0.1,
        weight_decay: float = 4e-5, recompute: bool = False, precision: str = "float32", devices: Any = None,
        bn_recalibration_batches: int = 20, seed: int = 0) -> arch_lib.Arch:
    """Searches, and leaves the result in the run folder.

    Args:
        search_space: fits the data.
        table: covers the space.
        data: from `data.load`.
        plan: phases and learning rates.
        run_dir: claimed already.
        method: how alpha learns.
        batch_size: images a step.
        label_smoothing: of weight steps.
        weight_decay: of weight steps.
        recompute: whether to trade time for memory.
        precision: of `supernet.PRECISIONS`.
        devices: from `replicas.strategy`; None for one device.
        bn_recalibration_batches: training batches that set the found network's batch norm statistics; 0 to leave
            those of the search.
        seed: of everything random.

    Returns:
        The found arch, with its costs.

    Raises:
        InputError: if no network of the space can keep the target.
    """
    from pnas_tf import callbacks, cost, evaluate, replicas, searcher, supernet
    from pnas_tf import data as data_lib

    supernet.set_graph_optimiser(False)
    devices = devices or replicas.strategy("none")
    ms = cost.matrix(search_space, cost.milliseconds(table))
    with devices.scope():
        net = supernet.Supernet(search_space, seed, recompute, precision)
        method = _with_target(method or Method(), net, ms, table.target)
        updater = _updater(method, net, ms, plan)
        optimizer = searcher.alpha_optimizer(_alpha_lr(method, net, plan))
    print(f"{data.train.size:,} training and {data.held_out.size:,} held-out images, {plan.steps:,} weight steps, "
          f"{plan.warmup_steps:,} of them warm-up{_on(devices)}.")
    model = searcher.Searcher(net, updater, plan, seed=seed, label_smoothing=label_smoothing,
                              weight_decay=weight_decay)
    model.compile(optimizer)
    done = callbacks.restore_checkpoint(model, run_dir)
    replicas.check_agree(devices, done, f"epochs in {run_dir}")
    if done:
        print(f"Going on after epoch {done} of {plan.epochs}.")
    if done < plan.epochs:
        batches = searcher.alternating_batches(data.train, data.held_out, plan, batch_size, seed,
                                               done * plan.steps_per_epoch, devices)
        with data_lib.naming_broken_images():
            scorer = evaluate.PathScorer(net, data.held_out.batches(batch_size).take(VALIDATION_BATCHES))
            log = callbacks.SearchLog(run_dir, ms, table.target, method.target_ms, _derivation(method, ms), scorer)
            model.fit(batches, initial_epoch=done, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch,
                      verbose=0, shuffle=False, callbacks=[log] if replicas.is_chief(devices) else [])
    arch = _derived(net, ms, table, method)
    if replicas.is_chief(devices):
        with data_lib.naming_broken_images():
            arch = _finish(net, arch, data, run_dir, batch_size, bn_recalibration_batches)
    return arch


def _on(devices):
    count = devices.num_replicas_in_sync
    return f", on {count} replicas" if count > 1 else ""


def _with_target(method, net, ms, target):
    low, high = ms.range(net.mask)
    uniform = net.mask / net.mask.sum(1, keepdims=True)
    target_ms = method.target_ms or DEFAULT_TARGET * float(ms.expected(uniform.astype("float32")))
    print(f"{net.space.name}: {len(net.space.choices)} choices, {net.space.size:.3g} archs, {net.count_weights():,} "
          f"weights; {low:.3g} to {high:.3g} ms on {target}, target {target_ms:.3g} ms.")
    if method.latency_loss != "none" and target_ms < low:
        raise InputError(f"No network of {net.space.name} takes {target_ms:g} ms on {target}: "
                         f"ask for {low:.4g} to {high:.4g} ms (--target_ms).")
    return dataclasses.replace(method, target_ms=target_ms)


def _updater(method, net, ms, plan):
    from pnas_tf import arch_updaters, cost

    if method.arch_update == "reinforce":
        reward = cost.reward(method.reward, method.target_ms)
        return arch_updaters.ReinforceUpdater(net, ms, reward, method.reinforce_samples)
    loss = cost.latency_loss(method.latency_loss, method.target_ms, plan.arch_steps, method.latency_strength)
    return arch_updaters.GradientUpdater(net, ms, loss, method.paths, method.active_draw, method.expected_latency)


def _alpha_lr(method, net, plan):
    ops = net.mask.shape[1]
    observed = 2 if method.arch_update == "gradient" and method.paths == "two" else ops
    lr = method.alpha_lr or schedule.alpha_lr(plan.arch_steps, ops, observed)
    print(f"{plan.arch_steps:,} architecture steps at learning rate {lr:.3g}: an alpha can travel about "
          f"{schedule.alpha_travel(lr, plan.arch_steps, ops, observed):.1f}.")
    return lr


def _derivation(method, ms):
    from pnas_tf import derive

    def derived(search_space, probs):
        if method.latency_loss == "none":
            return derive.most_probable(search_space, probs)
        return derive.most_probable_within(search_space, probs, ms, method.target_ms)

    return derived


def _derived(net, ms, table, method):
    from pnas_tf import derive

    probs = net.probs().numpy()
    arch, unlimited = _derivation(method, ms)(net.space, probs), derive.most_probable(net.space, probs)
    if arch != unlimited:
        print(f"The most probable op of each choice would take {ms.of_path(net.path(unlimited)):.3g} ms; "
              "taken is the most probable network within the target.")
    return arch.with_costs(target=table.target, target_ms=method.target_ms, expected_ms=float(ms.expected(probs)),
                           table_ms=ms.of_path(net.path(arch)))


def _finish(net, arch, data, run_dir, batch_size, bn_recalibration_batches):
    """Writes the found arch and its network with the supernet's weights."""
    from pnas_tf import evaluate, network

    model = network.build_network(arch)
    net.copy_weights_to(model, arch)
    score = evaluate.network(model, data.held_out.batches(batch_size))
    said = f"Held-out accuracy with inherited weights: {score.accuracy:.2%}"
    if bn_recalibration_batches:
        evaluate.recalibrate(model, data.train.batches(batch_size, seed=0).take(bn_recalibration_batches))
        score = evaluate.network(model, data.held_out.batches(batch_size))
        said += f", {score.accuracy:.2%} once batch norm has seen {bn_recalibration_batches} batches"
    print(f"{said}.")
    model.save_weights(run_folder.path(run_dir, "inherited.weights.h5"))
    arch = arch.with_costs(params=network.count_params(model), macs=network.count_macs(model))
    arch.save(run_folder.path(run_dir, "arch.json"))
    return arch


def _define_flags() -> None:
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_float("width_mult", 1.0, "Multiplies all widths of the space.", 0.05, 20)
    flags.DEFINE_string("dataset", "fashion_mnist_small",
                        "fashion_mnist_small, fashion_mnist, cifar10, npz:PATH, folder:PATH or tfds:NAME.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are.")
    flags.DEFINE_integer("image_size", 0, "Height and width of the images; 0: that of the space.", 0, 8192)
    flags.DEFINE_integer("held_out_size", 0, "Training images kept for alpha; 0: chosen by the data set's size.", 0)
    flags.DEFINE_string("table", None, "Latency table: a file, or the name of a shipped one.")
    flags.DEFINE_float("target_ms", 0.0, "Wanted milliseconds, never exceeded; 0: 0.75 of a random network's.", 0)
    flags.DEFINE_enum("latency_loss", "lagrangian", ["lagrangian", "add_linear", "mul_log", "none"],
                      "How expected latency joins the loss of the architecture step.")
    flags.DEFINE_float("latency_strength", 0.1, "Weight of the latency term of add_linear.", 0)
    flags.DEFINE_enum("arch_update", "gradient", ["gradient", "reinforce"], "How alpha learns.")
    flags.DEFINE_enum("paths", "two", ["two", "all"], "Ops observed in a gradient step.")
    flags.DEFINE_enum("active_draw", "even", ["even", "softmax"],
                      "Which op of a sampled pair is active: either, or by their probabilities.")
    flags.DEFINE_enum("expected_latency", "full", ["full", "pair"],
                      "Told to the loss: the network's expectation, or that over the sampled pairs alone.")
    flags.DEFINE_enum("reward", "paper", ["paper", "mnas", "abs"], "What reinforce raises.")
    flags.DEFINE_integer("reinforce_samples", 10, "Networks sampled for an update of reinforce.", 1)
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
    flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16", "mixed_float16"],
                      "What ops compute in; weights, gates and alpha are float32 in each.")
    flags.DEFINE_enum("strategy", "none", ["none", "mirrored", "multi_worker"],
                      "Devices: one, several of this machine, or several machines by TF_CONFIG.")
    flags.DEFINE_integer("replicas", 0, "mirrored: devices to use; 0: every GPU.", 0, 64)
    flags.DEFINE_integer("bn_recalibration_batches", 20,
                         "Training batches that set the found network's batch norm statistics; 0: those of the search.",
                         0)
    flags.DEFINE_integer("max_steps", 0, "Squeezes the whole search into so many weight steps: a trial run.", 0)
    flags.DEFINE_integer("seed", 0, "Of initial weights, data order and sampled paths.", 0, 2**31 - 1)
    flags.DEFINE_string("run_dir", None, "Folder of the results.")


def _main() -> None:
    f = flags.FLAGS
    search_space = space.load(f.space).scaled(f.width_mult)
    if not f.table:
        raise InputError("Name the latency table of your device: --table=FILE. Make one with "
                         f"python -m latency.build_table --space={f.space} --measurer=host --output=FILE, or use "
                         f"a shipped one: {', '.join(latency_table.names()) or 'none'}.")
    table = latency_table.read(f.table)
    run_flags.load_tensorflow()
    from pnas_tf import replicas

    with replicas.starting_again(f.strategy):
        devices = replicas.strategy(f.strategy, f.replicas)
        arch = _search(search_space, table, devices)
        if not replicas.is_chief(devices):
            print("Done; the first worker has written the results.")
            return
    costs = arch.costs
    print(f"\n{arch.draw()}\n\nFound: {costs['params']:,} parameters, {costs['macs']:,} MACs, "
          f"{costs['table_ms']:.3g} ms by the table of {costs['target']} (target {costs['target_ms']:.3g} ms).\n"
          f"Results: {os.path.join(f.run_dir, 'arch.json')}\n"
          f"Next:    python -m pnas_tf.train --run_dir={f.run_dir}")


def _search(search_space, table, devices):
    from pnas_tf import data as data_lib
    from pnas_tf import replicas

    f = flags.FLAGS
    data = data_lib.load(f.dataset, image_size=f.image_size or search_space.input_size,
                         held_out_size=f.held_out_size or None, seed=f.seed, data_dir=f.data_dir)
    search_space = search_space.for_data(data.image_shape[0], data.image_shape[2], data.num_classes)
    table.check_covers(search_space)
    _warn_classifier(table, search_space)
    print(_accuracy(table, search_space))
    batch_size = min(f.batch_size, data.train.size)
    if batch_size < f.batch_size:
        print(f"Batches of {batch_size}: there are no more training images.")
    replicas.check_divides(devices, batch_size)
    plan = schedule.Schedule(data.train.steps_per_epoch(batch_size), f.warmup_epochs,
                             f.search_epochs, f.arch_every, f.warmup_lr, f.lr)
    plan = plan.squeezed(f.max_steps) if f.max_steps else plan
    run_folder.claim(f.run_dir, run_flags.as_text())
    try:
        return run(search_space=search_space, table=table, data=data, plan=plan, run_dir=f.run_dir,
                   method=Method(**{field.name: f[field.name].value for field in dataclasses.fields(Method)}),
                   batch_size=batch_size, label_smoothing=f.label_smoothing, weight_decay=f.weight_decay,
                   recompute=f.memory == "recompute", precision=f.precision, devices=devices,
                   bn_recalibration_batches=f.bn_recalibration_batches, seed=f.seed)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on after the last whole epoch.")
        raise


def _accuracy(table, search_space):
    """How far the table's predictions were off, or a warning that nobody knows."""
    entry = table.accuracy(search_space) or {}
    shares = [entry.get(name) for name in ("within_5_percent", "within_10_percent", "rmse_of_mean")]
    if not all(isinstance(share, float | int) for share in shares):
        return (f"Warning: how well table {table.target} predicts networks of {search_space.name} is not known. Find "
                f"out: python -m latency.compare --table=TABLE.jsonl --space={search_space.name}")
    return (f"Table {table.target} predicted {shares[0]:.0%} of whole networks within 5 % and {shares[1]:.0%} within "
            f"10 %, RMSE {shares[2]:.1%} of the mean.")


def _warn_classifier(table, search_space):
    block, key = list(search_space.op_keys())[-1]
    classes = table.row(block.name, key)["filters"]
    if classes != key.filters:
        print(f"Table {table.target} has no classifier of {key.filters} classes: it is priced as one of {classes}.")


def main() -> None:
    """Console script."""
    _define_flags()
    run_flags.start(_main)


if __name__ == "__main__":
    main()
