"""The text of --help: the manual of a command, and its flags in groups. Rarely needed flags appear by name only."""

import shutil
import textwrap
from collections.abc import Mapping

from absl import flags

# A flag has the same meaning in every command. Flags without a group come under OTHER. --help lists RARE flags by name
# only, and --helpfull explains them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Files": ("run_dir", "pick", "compare", "model", "model_takes", "source", "format", "arch", "init_weights",
              "teacher", "output", "zip", "examples", "overwrite", "json", "plot", "times"),
    "Data": ("photos", "dataset", "data_dir", "image_size", "smaller_images", "image_channels", "num_classes",
             "broken_images", "class_weights", "held_out_size", "colour_jitter"),
    "Search space": ("space", "width_mult", "only", "import"),
    "Device and limits": ("table", "ms", "target_ms", "targets", "limit", "measurer", "target_name", "device",
                          "benchmark_binary", "serial", "host", "remote_python", "runtime", "delegate",
                          "accelerator", "clock_mhz", "threads", "dtype", "networks", "calibrate", "over_range",
                          "from", "measured"),
    "Exported file": ("mode", "input", "int8_io", "author", "license"),
    "Length and pace": ("epochs", "warmup_epochs", "search_epochs", "trials", "trial_epochs", "max_steps",
                        "batch_size", "lr", "warmup_lr", "label_smoothing", "weight_decay", "momentum",
                        "dropout", "drop_path", "seed"),
    "Machine": ("memory", "precision", "strategy", "replicas"),
}
OTHER = "Other"
RARE = frozenset((
    "active_draw", "alpha_lr", "arch_every", "arch_update", "background", "bn_recalibration_batches",
    "batch_norm", "checkpoint_minutes", "crop_area", "cutout", "expected_latency", "front", "pretrained_parts",
    "image_sizes", "share", "stages", "teacher_epochs", "distill", "distill_features", "temperature",
    "use_all_ms", "ema", "mixup", "cutmix", "randaugment", "latency_loss", "latency_strength", "paths",
    "jit_compile", "optimizer", "reinforce_samples", "reward", "allow_drop", "calibration_images", "check_images",
    "qat_batch_size", "qat_epochs", "qat_lr", "verbose", "adb", "binary_sha256", "cooldown_seconds", "cpu_mask",
    "max_celsius", "max_drift", "min_seconds", "pause_seconds", "rounds", "runs", "run_delay_seconds",
    "timeout_seconds", "timing_seconds", "together", "remote_folder", "ssh_config", "wait_seconds", "warmup_runs",
    "warmup_seconds", "vela_config", "system_config", "memory_mode", "arena_kib", "vela_binary", "library_path"))
EVERYWHERE = {"flagfile=FILE": "File with further flags, one per line.",
              "verbosity=1": "Shows the log of TensorFlow and its converter, for a bug report.",
              "version": "Version of the package.",
              "help, --helpfull": "This text; the same text with every flag explained."}


def render(manual: str, defined: Mapping[str, flags.Flag], *, full: bool = False, width: int | None = None) -> str:
    """The text of --help.

    Args:
        manual: Text that comes first: what the command does, and a command to paste.
        defined: Flags of the command by name.
        full: Whether to explain the rare flags, too.
        width: Characters per line; if None, the width of the terminal, at least 70 and at most 110.
    """
    width = width or max(70, min(110, shutil.get_terminal_size((100, 40)).columns))
    shown = [name for name in defined if full or name not in RARE]
    grouped = {title: [name for name in names if name in shown] for title, names in GROUPS.items()}
    placed = {name for names in grouped.values() for name in names}
    grouped[OTHER] = sorted(name for name in shown if name not in placed)
    lines = [manual.strip(), ""]
    for title, names in grouped.items():
        if names:
            lines += [f"{title}:", *(_entry(_head(defined[name]), _text(defined[name]), width) for name in names), ""]
    rare = ["--" + name for name in sorted(defined) if name not in shown]
    if rare:
        lines += ["Rarely needed, explained by --helpfull:",
                  textwrap.fill(" ".join(rare), width, initial_indent="  ", subsequent_indent="  ",
                                break_on_hyphens=False), ""]
    lines += ["Every command:", *(_entry(f"--{name}", text, width) for name, text in EVERYWHERE.items())]
    return "\n".join(lines)


def _head(flag: flags.Flag) -> str:
    """A flag as it is typed, with its default: `--lr=0.05`, `--nooverwrite`."""
    if flag.boolean:
        return f"--{'no' if flag.default else ''}{flag.name}"
    default = flag.default
    if isinstance(default, list | tuple):
        default = ",".join(map(str, default))
    value = "..." if default in (None, "") else f"{default:g}" if isinstance(default, float) else default
    return f"--{flag.name}={value}"


def _text(flag: flags.Flag) -> str:
    return flag.help.partition(";\n")[0]  # absl appends bounds and notes on the type of the flag


def _entry(head: str, text: str, width: int) -> str:
    """A flag with its explanation beside it, or below if the flag is too long."""
    column = 32
    lines = textwrap.wrap(text, width - column, break_on_hyphens=False)
    if len(head) + 4 <= column and lines:
        return "\n".join([f"  {head:<{column - 2}}{lines[0]}", *(" " * column + line for line in lines[1:])])
    return "\n".join([f"  {head}", *(" " * column + line for line in lines)])
