"""Several devices from one supernet (paper table 4 and figure 6), on the devices that every machine has.

    python -m benchmarks.specialise --space=cifar_mb --dataset=cifar10 --data_dir=/data/cifar10 --out_dir=runs/devices

TFLite with XNNPACK in float32 and in int8, TFLite's built-in kernels, and XLA on the CPU: a latency table of each; one
search with a target on each, what the network of one op everywhere (--uniform) takes there; each found network and that
uniform one trained alike and timed on each device. Writes specialise.json and specialise.svg.

Goes in steps (--steps, in this order), each of which goes on where it was stopped: tables, search, train, time. The
step cost, which has to be asked for, compares a search for all devices with one for the first, pair by pair.
"""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import steps
from benchmarks.quality import study_networks
from pnas_tf import files as files_lib
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces
from pnas_tf.space.arch import Arch

# Flags of latency.build_table for each device. The first is what one search alone is for.
DEVICES: dict[str, tuple[str, ...]] = {
    "xnnpack_float32": (), "xnnpack_int8": ("--dtype=int8",), "builtin_float32": ("--delegate=none",),
    "xla_float32": ("--measurer=xla",)}
# What --calibrate does not pay for: XLA compiles a network for seconds.
NOT_CALIBRATED = ("xla_float32",)
UNIFORM = "uniform"
STEPS = ("tables", "search", "train", "time", "cost")


def build_tables(space_name: str, out_dir: str, networks: int, calibrate: int) -> None:
    """A table of each device, judged by `networks` networks and calibrated on others."""
    for device, more in DEVICES.items():
        path, log = table_path(out_dir, device), os.path.join(out_dir, "tables", f"{device}.log")
        steps.command("latency.build_table", [f"--space={space_name}", f"--output={path}", *more], log)
        if networks and not latency_table.read(path).header.get("accuracy"):
            others = 0 if device in NOT_CALIBRATED else calibrate
            steps.command("latency.compare", [f"--space={space_name}", f"--table={path}", f"--networks={networks}",
                                              f"--calibrate={others}"], log)
        print(f"{device}: {path}", flush=True)


def table_path(out_dir: str, device: str) -> str:
    """Where the table of a device is."""
    return os.path.join(out_dir, "tables", f"{device}.jsonl")


def read_tables(out_dir: str, search_space: blocks.Space) -> dict[str, LatencyTable]:
    """The table of each device.

    Raises:
        InputError: if one is missing, or lacks rows.
    """
    tables = {device: latency_table.read(table_path(out_dir, device)) for device in DEVICES}
    for table in tables.values():
        table.check_covers(search_space)
    return tables


def targets(tables: Mapping[str, LatencyTable], arch: Arch) -> dict[str, float]:
    """Milliseconds that a network takes on each device by its table, rounded up to 4 digits."""
    from pnas_tf.cost import prices

    return {device: steps.rounded_up(prices.of_arch(arch, prices.milliseconds(table)))
            for device, table in tables.items()}


def search(out_dir: str, targets_ms: Mapping[str, float], arguments: Sequence[str], run_dir: str) -> dict[str, float]:
    """One search for some devices; seconds and cpu_seconds."""
    wanted = ",".join(f"{table_path(out_dir, device)}:{ms:g}" for device, ms in targets_ms.items())
    return steps.command("pnas_tf.search", [*arguments, f"--targets={wanted}", f"--run_dir={run_dir}"],
                         f"{run_dir}.log")


def found_folder(run_dir: str, table: LatencyTable, target_ms: float) -> str:
    """Where a search for several targets left the network for one of them."""
    return os.path.join(run_dir, goals_lib.goal_name(table.target, target_ms))


def train(arch_file: str, run_dir: str, arguments: Sequence[str]) -> None:
    """Trains one network in a process of its own, unless that was done."""
    if not os.path.exists(RunFolder(run_dir).training_facts):
        steps.command("pnas_tf.train", [f"--arch={arch_file}", f"--run_dir={run_dir}", *arguments], f"{run_dir}.log")


def time_all(archs: Mapping[str, Arch], tables: Mapping[str, LatencyTable], out_dir: str
             ) -> dict[str, dict[str, float]]:
    """Times networks on each device as tables are compared; kept in a file for each device.

    Returns:
        ms by network and device.
    """
    from latency import measure, timed_networks

    ms: dict[str, dict[str, float]] = {network: {} for network in archs}
    # XLA first: its number of threads is set before TensorFlow computes anything.
    for device in sorted(tables, key=lambda device: tables[device].header["measurer"] != "xla"):
        found = timed_networks.measured(os.path.join(out_dir, "times", f"{device}.jsonl"),
                                       measure.from_header(tables[device].header, tables[device].path),
                                       [(arch, number) for number in (1, 2) for arch in archs.values()])
        for network, arch in archs.items():
            ms[network][device] = min(found[timed_networks.digest(arch), number] for number in (1, 2))
    return ms


def matrix(archs: Mapping[str, Arch], tables: Mapping[str, LatencyTable], targets_ms: Mapping[str, float],
           ms: Mapping[str, Mapping[str, float]], accuracies: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """All results as values.

    Returns:
        targets_ms by device; networks, each with its ops, accuracies, and by device ms, predicted_ms and share (of the
        device's target, measured); wins, by device: keep_the_target (networks that do, within 3 %), and most_accurate
        of them.
    """
    from pnas_tf.cost import prices

    networks = {name: {"ops": arch.ops, "accuracies": list(accuracies[name]),
                       "accuracy": statistics.fmean(accuracies[name]), "ms": dict(ms[name]),
                       "predicted_ms": {device: prices.of_arch(arch, prices.milliseconds(table))
                                        for device, table in tables.items()},
                       "share": {device: ms[name][device] / targets_ms[device] for device in tables}}
                for name, arch in archs.items()}
    wins = {}
    for device in tables:
        keeping = [name for name, network in networks.items() if network["share"][device] <= 1.03]
        wins[device] = {"keep_the_target": keeping,
                        "most_accurate": max(keeping, key=lambda name: networks[name]["accuracy"], default=None)}
    return {"targets_ms": dict(targets_ms), "networks": networks, "wins": wins}


def show(result: Mapping[str, Any]) -> str:
    """The matrix as text: a row for each network, a column for each device; * on the diagonal."""
    devices = list(result["targets_ms"])
    lines = [f"{'found for':<18}{'accuracy':>10}" + "".join(f"{device:>24}" for device in devices),
             f"{'target':<28}" + "".join(f"{ms:>21.4g} ms" for ms in result["targets_ms"].values())]
    for name, network in result["networks"].items():
        cells = [f"{network['ms'][device]:.4g} ms ({network['share'][device]:.2f}){'*' if device == name else ' '}"
                 for device in devices]
        lines.append(f"{name:<18}{network['accuracy']:>10.2%}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append("In brackets: share of the device's target. Trained with "
                 f"{len(next(iter(result['networks'].values()))['accuracies'])} seed(s).")
    for device, win in result["wins"].items():
        best = win["most_accurate"]
        lines.append(f"{device}: most accurate of those that keep the target within 3 %: {best or 'none'}"
                     + ("." if best == device else f", not its own. Those that keep it: "
                                                   f"{', '.join(win['keep_the_target']) or 'none'}."))
    return "\n".join(lines)


def plot(archs: Mapping[str, Arch]) -> str:
    """The networks side by side (paper figure 6), as an SVG file: colour is the kernel, height the expansion."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    from pnas_tf.report import drawing, plots

    strips = {name: [box for stage in drawing.of_arch(arch) for box in stage.boxes if box.kind != "fixed"]
              for name, arch in archs.items()}
    columns = max(map(len, strips.values()))
    with rc_context(plots.FILE_STYLE):
        figure = Figure(figsize=(2 + 0.6 * columns, 0.5 + 0.8 * len(strips)), layout="constrained")
        axes = figure.add_subplot()
        for row, boxes in enumerate(strips.values()):
            for column, box in enumerate(boxes):
                height = 0.12 * box.expansion
                colour = plots.KERNEL_COLORS.get(box.kernel, plots.PLAIN_COLOR)
                skipped = box.kind == "skipped"
                axes.add_patch(Rectangle((column, -row - height / 2), 0.8, height, fill=not skipped, facecolor=colour,
                                         edgecolor="#64707d" if skipped else colour, linestyle=":" if skipped else "-"))
                if not skipped:
                    axes.text(column + 0.4, -row, f"{box.kernel}\N{MULTIPLICATION SIGN}{box.kernel}", color="white",
                              ha="center", va="center", fontsize=7)
        axes.set(xlim=(-0.2, columns), ylim=(0.5 - len(strips), 0.5), yticks=[-row for row in range(len(strips))],
                 yticklabels=list(strips), xticks=[column + 0.4 for column in range(columns)],
                 xticklabels=list(next(iter(archs.values())).space.choices))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        kernels = sorted({box.kernel for boxes in strips.values() for box in boxes if box.kernel})
        figure.legend(handles=[*(Patch(color=plots.KERNEL_COLORS.get(kernel, plots.PLAIN_COLOR),
                                       label=f"{kernel}\N{MULTIPLICATION SIGN}{kernel}") for kernel in kernels),
                               Patch(fill=False, edgecolor="#64707d", linestyle=":", label="skipped")],
                      loc="outside upper right", ncols=4, frameon=False,
                      title="height: expansion")
        return plots.as_file(figure)


def cost_of_several(out_dir: str, targets_ms: Mapping[str, float], arguments: Sequence[str], pairs: int
                    ) -> dict[str, Any]:
    """What a search for all devices takes, as a ratio to one for the first, by pairs that follow each other.

    Returns:
        pairs (cpu_seconds and seconds of one and of all, and their epochs' alone), and the medians of their ratios.
    """
    path, first = os.path.join(out_dir, "cost.jsonl"), next(iter(targets_ms))
    done = steps.lines(path)
    for number in range(len(done), pairs):
        used = {}
        kinds = {"one": {first: targets_ms[first]}, "all": targets_ms}
        for kind in (list(kinds) if number % 2 else reversed(kinds)):
            run_dir = os.path.join(out_dir, "cost", f"{kind}_{number}")
            used[kind] = search(out_dir, kinds[kind], arguments, run_dir)
            used[kind]["epochs_seconds"] = steps.search_seconds(run_dir)
        steps.add_line(path, used)
    done = steps.lines(path)
    return {"pairs": done, **{name: statistics.median(used["all"][name] / used["one"][name] for used in done)
                              for name in ("cpu_seconds", "seconds", "epochs_seconds")}}


def _define_flags() -> None:
    flags.DEFINE_string("space", "cifar_mb", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_string("dataset", "cifar10", "As in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are.")
    flags.DEFINE_string("uniform", "mb_k5_e3", "Op of the network whose milliseconds on each device are the targets.")
    flags.DEFINE_string("search_flags", "cifar10_mb.flags", "Flag file of the search, for what is not given here.")
    flags.DEFINE_integer("search_steps", 2000, "Weight steps of the search.", 2)
    flags.DEFINE_integer("epochs", 3, "Of the training of each network.", 1)
    flags.DEFINE_integer("train_steps", 0, "Of it, steps at most; 0: no limit.", 0)
    flags.DEFINE_integer("batch_size", 96, "Of the training.", 1)
    flags.DEFINE_float("lr", 0.1, "Of the training.", 0)
    flags.DEFINE_integer("seeds", 1, "Trainings of each network.", 1, 100)
    flags.DEFINE_integer("networks", 15, "Networks that each table is judged by; 0: not judged.", 0)
    flags.DEFINE_integer("calibrate", 60, "Networks that each table but XLA's is calibrated on.", 0)
    flags.DEFINE_integer("cost_steps", 300, "Weight steps of a search of the step cost.", 2)
    flags.DEFINE_integer("cost_pairs", 3, "Pairs of searches of the step cost.", 1)
    flags.DEFINE_list("steps", list(STEPS[:-1]), f"What to do of {', '.join(STEPS)}, in this order.")
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
    data = [f"--dataset={f.dataset}", *([f"--data_dir={f.data_dir}"] if f.data_dir else [])]
    searching = [f"--flagfile={f.search_flags}", f"--space={f.space}", *data]
    run_dir = os.path.join(f.out_dir, "search")
    if "search" in f.steps:
        search(f.out_dir, targets_ms, [*searching, f"--max_steps={f.search_steps}"], run_dir)
    if "cost" in f.steps:
        ratios = cost_of_several(f.out_dir, targets_ms, [*searching, f"--max_steps={f.cost_steps}"], f.cost_pairs)
        files_lib.write_text(os.path.join(f.out_dir, "cost.json"), json.dumps(ratios, indent=1) + "\n")
        print(f"A search for {len(DEVICES)} devices against one for the first, {f.cost_steps} steps, medians of "
              f"{len(ratios['pairs'])} pairs: CPU time {ratios['cpu_seconds']:.2f}x, wall {ratios['seconds']:.2f}x, "
              f"epochs alone {ratios['epochs_seconds']:.2f}x.")
    if not {"train", "time"} & set(f.steps):
        print(f"Results: {f.out_dir}")
        return
    uniform_file = os.path.join(f.out_dir, "uniform.json")
    reference.save(uniform_file)
    files = {device: RunFolder(found_folder(run_dir, table, targets_ms[device])).arch
             for device, table in tables.items()} | {UNIFORM: uniform_file}
    trained = {(name, seed): os.path.join(f.out_dir, "train", f"{name}_seed{seed}")
               for seed in range(f.seeds) for name in files}
    if "train" in f.steps:
        for (name, seed), folder in trained.items():
            train(files[name], folder, [*data, f"--epochs={f.epochs}", f"--max_steps={f.train_steps}",
                                        f"--batch_size={f.batch_size}", f"--lr={f.lr}", f"--seed={seed}"])
            print(f"{name}, seed {seed}: trained", flush=True)
    if "time" in f.steps:
        _results(f.out_dir, {name: arch_lib.load(file) for name, file in files.items()}, tables, targets_ms,
                 {name: [folder for (other, _), folder in trained.items() if other == name] for name in files})


def _results(out_dir, archs, tables, targets_ms, trained):
    accuracies = {name: [files_lib.read_json(RunFolder(folder).training_facts)["test_accuracy"] for folder in folders]
                  for name, folders in trained.items()}
    result = matrix(archs, tables, targets_ms, time_all(archs, tables, out_dir), accuracies)
    json_file, svg_file = (os.path.join(out_dir, f"specialise.{kind}") for kind in ("json", "svg"))
    files_lib.write_text(json_file, json.dumps(result, indent=1) + "\n")
    files_lib.write_text(svg_file, plot(archs))
    print(f"\n{show(result)}\nResults: {json_file}\nPlot:    {svg_file}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
