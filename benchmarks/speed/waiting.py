"""What a user waits for in `make quickstart`: seconds of each step and of each part of it.

    python -m benchmarks.speed.waiting --out_dir=runs/waiting
    python -m benchmarks.speed.waiting --out_dir=runs/waiting --steps=pnas_tf.search,pnas_tf.train

Runs the commands that the Makefile has for `quickstart`, each in a process of its own that `benchmarks.speed.sampled`
looks at. On a busy machine CPU seconds say more than seconds. To compare two versions of the code, run both in turns.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from absl import flags

from benchmarks import steps as steps_lib
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError

# Wall and CPU seconds by part.
Parts = Mapping[str, Sequence[float]]
# Parts of less than this share of a step's CPU seconds are shown together.
SMALL = 0.02


def commands(run_dir: str) -> list[list[str]]:
    """The steps of `make quickstart`: the module of each and its arguments.

    Args:
        run_dir: Run folder.

    Raises:
        InputError: If the Makefile is not here, or has no such step.
    """
    try:
        lines = subprocess.run(["make", "--dry-run", "quickstart", f"RUN={run_dir}"], check=True, text=True,
                               capture_output=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"make --dry-run quickstart failed ({error}). Run this command in the project's folder, with "
                         "make installed.") from None
    words = [shlex.split(line) for line in lines if " -m " in line and "pip install" not in line]
    return [each[2:] for each in words if each[1] == "-m" and each[2] != "venv"]


def run(out_dir: str, only: Sequence[str] = ()) -> dict[str, Parts]:
    """Runs the steps and prints each as soon as it has ended.

    Args:
        out_dir: Folder for the run, the output of each step, and its parts as JSON.
        only: Modules of the steps to run; empty for all.

    Returns:
        The parts of each step, by module.
    """
    run_dir = os.path.join(out_dir, "run")
    os.makedirs(run_dir, exist_ok=True)
    results: dict[str, Parts] = {}
    for module, *arguments in commands(run_dir):
        if only and module not in only:
            continue
        output = os.path.join(out_dir, f"{module}.json")
        steps_lib.command("benchmarks.speed.sampled", [output, module, *arguments],
                          os.path.join(out_dir, f"{module}.log"))
        results[module] = files.read_json(output)
        print(table({module: results[module]}), flush=True)
    return results


def table(results: Mapping[str, Parts]) -> str:
    """Steps and their parts as lines of text, the largest parts first."""
    total = sum(cpu for parts in results.values() for _, cpu in parts.values())
    lines = []
    for module, parts in results.items():
        wall, cpu = (sum(seconds[which] for seconds in parts.values()) for which in range(2))
        lines.append(_line(module, wall, cpu, total))
        small = [seconds for seconds in parts.values() if seconds[1] < SMALL * cpu]
        for part, (part_wall, part_cpu) in sorted(parts.items(), key=lambda item: -item[1][1]):
            if part_cpu >= SMALL * cpu:
                lines.append(_line(f"  {part}", part_wall, part_cpu, total))
        if small:
            lines.append(_line("  small parts", sum(wall for wall, _ in small), sum(cpu for _, cpu in small), total))
    return "\n".join(lines)


def _line(name: str, wall: float, cpu: float, total: float) -> str:
    return f"{name:<28}{wall:>8.1f} s{cpu:>9.1f} s CPU{cpu / total:>8.1%}"


def main() -> None:
    """Entry point."""
    out_dir = flags.DEFINE_string("out_dir", None, "Folder for the run and its figures; a new one.")
    only = flags.DEFINE_list("steps", [], "Modules of the steps to run, with commas between; default: all. The steps "
                             "before must have been run in the same folder.")

    def show():
        if not out_dir.value:
            raise InputError("Name a folder for the run: --out_dir=DIR.")
        results = run(out_dir.value, only.value)
        print("\nAll steps:\n" + table(results))
        files.write_text(os.path.join(out_dir.value, "waiting.json"), json.dumps(results, indent=1) + "\n")

    start.start(show)


if __name__ == "__main__":
    main()
