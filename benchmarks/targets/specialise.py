"""Several devices from one supernet (paper table 4 and figure 6), on the devices that every machine has.

    python -m benchmarks.targets.specialise --data_dir=/data/cifar10 --out_dir=runs/devices

The devices are TFLite with XNNPACK in float32 and in int8, TFLite's built-in kernels, and XLA on the CPU. The
benchmark makes a latency table of each. One search has a target on each device: the milliseconds there of the network
that has the same op everywhere (--uniform). Each searched network and the uniform one are trained alike and timed on
every device. Writes specialise.json and specialise.svg into --out_dir.

The work goes in steps, --steps, in this order: tables, search, train, time. Each step goes on where it was stopped.
The step cost, which runs only if --steps names it, compares a search for all devices with a search for the first
device, pair by pair.
"""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import steps
from benchmarks.quality import study_networks
from benchmarks.targets import specialise_results
from pnas_tf import files, terminal
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces
from pnas_tf.space.arch import Arch

# Flags of latency.build_table for each device. The step cost takes the first for its searches for one device.
DEVICES: dict[str, tuple[str, ...]] = {
    "xnnpack_float32": (), "xnnpack_int8": ("--dtype=int8",), "builtin_float32": ("--delegate=none",),
    "xla_float32": ("--measurer=xla",)}
# Devices whose tables are not calibrated: XLA takes seconds to compile a network.
NOT_CALIBRATED = ("xla_float32",)
UNIFORM = "uniform"
STEPS = ("tables", "search", "train", "time", "cost")


def build_tables(space_name: str, out_dir: str, networks: int, calibrate: int) -> None:
    """Builds the table of each device, judges it and calibrates it.

    Args:
        space_name: Name of the space, or path of a JSON file.
        out_dir: Folder of the results.
        networks: Number of networks that judge each table; 0: tables are neither judged nor calibrated.
        calibrate: Number of further networks that each table is calibrated on.
    """
    for device, table_flags in DEVICES.items():
        path, log = table_path(out_dir, device), os.path.join(out_dir, "tables", f"{device}.log")
        steps.command("latency.build_table", [f"--space={space_name}", f"--output={path}", *table_flags], log)
        if networks and not latency_table.read(path).header.get("accuracy"):
            others = 0 if device in NOT_CALIBRATED else calibrate
            steps.command("latency.compare", [f"--space={space_name}", f"--table={path}", f"--networks={networks}",
                                              f"--calibrate={others}"], log)
        print(f"{device}: {path}", flush=True)


def table_path(out_dir: str, device: str) -> str:
    """Path of the table of a device."""
    return os.path.join(out_dir, "tables", f"{device}.jsonl")


def read_tables(out_dir: str, search_space: blocks.Space) -> dict[str, LatencyTable]:
    """Reads the table of each device.

    Raises:
        InputError: If a table is missing, or lacks rows of the space.
    """
    tables = {device: latency_table.read(table_path(out_dir, device)) for device in DEVICES}
    for table in tables.values():
        table.check_covers(search_space)
    return tables


def targets(tables: Mapping[str, LatencyTable], arch: Arch) -> dict[str, float]:
    """Milliseconds that a network takes on each device according to its table, rounded up to 4 digits."""
    from pnas_tf.cost import prices

    return {device: terminal.rounded_up(prices.of_arch(arch, prices.milliseconds(table)))
            for device, table in tables.items()}


def search(out_dir: str, targets_ms: Mapping[str, float], arguments: Sequence[str], run_dir: str) -> dict[str, float]:
    """Runs one search with a target on each of some devices.

    Args:
        out_dir: Folder of the results, which holds the tables.
        targets_ms: Target in milliseconds by device.
        arguments: Further flags of pnas_tf.search.
        run_dir: Run folder of the search.

    Returns:
        The `seconds` and `cpu_seconds` of the search.
    """
    goals = ",".join(f"{table_path(out_dir, device)}:{ms:g}" for device, ms in targets_ms.items())
    return steps.command("pnas_tf.search", [*arguments, f"--targets={goals}", f"--run_dir={run_dir}"],
                         f"{run_dir}.log")


def network_folder(run_dir: str, table: LatencyTable, target_ms: float) -> RunFolder:
    """The folder in which a search for several targets leaves the network for one of them."""
    return RunFolder(os.path.join(run_dir, goals_lib.goal_name(table.target, target_ms)))


def train(arch_file: str, run_dir: str, arguments: Sequence[str]) -> None:
    """Trains a network in a process of its own, unless its folder says that it has been trained.

    Args:
        arch_file: File of the network.
        run_dir: Run folder of the training.
        arguments: Further flags of pnas_tf.train.
    """
    if not os.path.exists(RunFolder(run_dir).training_facts):
        steps.command("pnas_tf.train", [f"--arch={arch_file}", f"--run_dir={run_dir}", *arguments], f"{run_dir}.log")


def time_all(archs: Mapping[str, Arch], tables: Mapping[str, LatencyTable], out_dir: str
             ) -> dict[str, dict[str, float]]:
    """Times networks twice on each device, as latency.compare does, and takes the lower of both times.

    Args:
        archs: Networks by name.
        tables: Table by device.
        out_dir: Folder of the results, which keeps the times in a file for each device.

    Returns:
        Milliseconds by network and device.
    """
    from latency import measure, timed_networks
    from pnas_tf.cost import network_times

    ms: dict[str, dict[str, float]] = {network: {} for network in archs}
    # XLA first: its number of threads has to be set before TensorFlow computes anything.
    for device in sorted(tables, key=lambda device: tables[device].header["measurer"] != "xla"):
        timed = timed_networks.measured(os.path.join(out_dir, "times", f"{device}.jsonl"),
                                        measure.from_header(tables[device].header, tables[device].path),
                                        [(arch, number) for number in (1, 2) for arch in archs.values()])
        for network, arch in archs.items():
            ms[network][device] = min(timed[network_times.digest(arch), number] for number in (1, 2))
    return ms


def cost_of_several(out_dir: str, targets_ms: Mapping[str, float], arguments: Sequence[str], pairs: int
                    ) -> dict[str, Any]:
    """Measures what a search for all devices takes, as a ratio to a search for the first device.

    The two searches of a pair follow each other; which goes first alternates.

    Args:
        out_dir: Folder of the results. Its cost.jsonl keeps the pairs that are done.
        targets_ms: Target in milliseconds by device.
        arguments: Further flags of pnas_tf.search.
        pairs: Number of pairs.

    Returns:
        pairs: For each pair, by `one` and `all`: cpu_seconds, seconds, and epochs_seconds (of the epochs alone).
        cpu_seconds, seconds, epochs_seconds: Medians of the ratios all / one.
    """
    path, first = os.path.join(out_dir, "cost.jsonl"), next(iter(targets_ms))
    done = files.read_lines(path)
    for number in range(len(done), pairs):
        usage: dict[str, dict[str, Any]] = {}
        kinds = {"one": {first: targets_ms[first]}, "all": targets_ms}
        for kind in (list(kinds) if number % 2 else reversed(kinds)):
            run_dir = os.path.join(out_dir, "cost", f"{kind}_{number}")
            usage[kind] = search(out_dir, kinds[kind], arguments, run_dir)
            usage[kind]["epochs_seconds"] = steps.search_seconds(run_dir)
        files.append_line(path, usage)
    done = files.read_lines(path)
    return {"pairs": done, **{name: statistics.median(pair["all"][name] / pair["one"][name] for pair in done)
                              for name in ("cpu_seconds", "seconds", "epochs_seconds")}}


def _define_flags() -> None:
    flags.DEFINE_string("space", "cifar_mb", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_string("dataset", "cifar10", "Data set, as in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files.")
    flags.DEFINE_string("uniform", "mb_k5_e3", "Op of the uniform network, whose milliseconds on each device are the "
                        "targets.")
    flags.DEFINE_string("search_flags", "cifar10_mb.flags",
                        "Flag file of the search, for what is not given here.")
    flags.DEFINE_integer("search_steps", 2000, "Weight steps of the search.", 2)
    flags.DEFINE_integer("epochs", 3, "Epochs of the training of each network.", 1)
    flags.DEFINE_integer("train_steps", 0, "Largest number of steps of a training; 0: no limit.", 0)
    flags.DEFINE_integer("batch_size", 96, "Batch size of the training.", 1)
    flags.DEFINE_float("lr", 0.1, "Learning rate of the training.", 0)
    flags.DEFINE_integer("seeds", 1, "Number of trainings of each network.", 1, 100)
    flags.DEFINE_integer("networks", 15, "Networks that each table is judged by; 0: not judged.", 0)
    flags.DEFINE_integer("calibrate", 60, "Networks that each table is calibrated on, except XLA's.", 0)
    flags.DEFINE_integer("cost_steps", 300, "Weight steps of a search of the step cost.", 2)
    flags.DEFINE_integer("cost_pairs", 3, "Pairs of searches of the step cost.", 1)
    flags.DEFINE_list("steps", list(STEPS[:-1]), f"Steps to do, of {', '.join(STEPS)}; they go in this order.")
    flags.DEFINE_string("out_dir", None, "Folder of the results.")


def _main() -> None:
    f = flags.FLAGS
    if not f.out_dir or not set(f.steps) <= set(STEPS):
        raise InputError(f"Name a folder by --out_dir=DIR, and --steps of {', '.join(STEPS)}; got {f.steps}.")
    if "tables" in f.steps:
        build_tables(f.space, f.out_dir, f.networks, f.calibrate)
    start.load_tensorflow()
    search_space = spaces.load(f.space)
    reference, tables = study_networks.uniform(search_space, f.uniform), read_tables(f.out_dir, search_space)
    targets_ms = targets(tables, reference)
    data_flags = [f"--dataset={f.dataset}", *([f"--data_dir={f.data_dir}"] if f.data_dir else [])]
    search_flags = [f"--flagfile={f.search_flags}", f"--space={f.space}", "--use_all_ms", *data_flags]
    run_dir = os.path.join(f.out_dir, "search")
    if "search" in f.steps:
        search(f.out_dir, targets_ms, [*search_flags, f"--max_steps={f.search_steps}"], run_dir)
    if "cost" in f.steps:
        ratios = cost_of_several(f.out_dir, targets_ms, [*search_flags, f"--max_steps={f.cost_steps}"], f.cost_pairs)
        files.write_text(os.path.join(f.out_dir, "cost.json"), json.dumps(ratios, indent=1) + "\n")
        print(f"A search for {len(DEVICES)} devices against one for the first, {f.cost_steps} steps, medians of "
              f"{len(ratios['pairs'])} pairs: CPU time {ratios['cpu_seconds']:.2f}x, wall {ratios['seconds']:.2f}x, "
              f"epochs alone {ratios['epochs_seconds']:.2f}x.")
    if not {"train", "time"} & set(f.steps):
        print(f"Results: {f.out_dir}")
        return
    uniform_file = os.path.join(f.out_dir, "uniform.json")
    reference.save(uniform_file)
    arch_files = {device: network_folder(run_dir, table, targets_ms[device]).arch
                  for device, table in tables.items()} | {UNIFORM: uniform_file}
    trained = {name: [os.path.join(f.out_dir, "train", f"{name}_seed{seed}") for seed in range(f.seeds)]
               for name in arch_files}
    if "train" in f.steps:
        _train_all(arch_files, trained, data_flags)
    if "time" in f.steps:
        _results(f.out_dir, {name: arch_lib.load(file) for name, file in arch_files.items()}, tables, targets_ms,
                 trained)


def _train_all(arch_files, trained, data_flags):
    """Trains every network with every seed, seed by seed, so that a stopped step has some of every network."""
    f = flags.FLAGS
    for seed in range(f.seeds):
        for name, file in arch_files.items():
            train(file, trained[name][seed], [*data_flags, f"--epochs={f.epochs}", f"--max_steps={f.train_steps}",
                                              f"--batch_size={f.batch_size}", f"--lr={f.lr}", f"--seed={seed}"])
            print(f"{name}, seed {seed}: trained", flush=True)


def _results(out_dir, archs, tables, targets_ms, trained):
    accuracies = {name: [files.read_json(RunFolder(folder).training_facts)["test_accuracy"] for folder in folders]
                  for name, folders in trained.items()}
    result = specialise_results.matrix(archs, tables, targets_ms, time_all(archs, tables, out_dir), accuracies)
    json_file, svg_file = (os.path.join(out_dir, f"specialise.{ending}") for ending in ("json", "svg"))
    files.write_text(json_file, json.dumps(result, indent=1) + "\n")
    files.write_text(svg_file, specialise_results.plot(archs))
    print(f"\n{specialise_results.show(result)}\nResults: {json_file}\nPlot:    {svg_file}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
