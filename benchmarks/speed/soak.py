"""Whether a long search leaks memory or files, or becomes slower, over 2,000 short steps.

    python -m benchmarks.speed.soak --out_dir=runs/soak

Runs the search command on the embedded images in a process of its own, with a checkpoint each second and with
TensorBoard. At the end of each epoch it reads the memory and the open files of that process from /proc, so it needs
Linux. Writes soak.json into --out_dir.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from typing import Any

from absl import flags

from benchmarks import steps as steps_lib
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import blocks, spaces

# 1,600 training images in batches of 32.
STEPS_PER_EPOCH, HELD_OUT, BATCH = 50, 4400, 32
TINY = spaces.mb_space("soak", input_size=28, input_channels=1, num_classes=10,
                      stem=blocks.Block("stem", ("conv_k3",), 8, 2), first=blocks.Block("b00", ("mb_k3_e1",), 8, 2),
                      stages=(spaces.Stage(8, 3, 1),), mix=16)


def run(out_dir: str, steps: int, settled_steps: int) -> dict[str, Any]:
    """Runs a search and watches its process.

    Args:
        out_dir: Folder of the run folder and of soak.json.
        steps: Number of weight steps.
        settled_steps: Number of steps after which nothing may grow any more.

    Returns:
        steps: Weight steps that were run.
        settled, last: Samples of resident memory (rss_bytes) and of open_files: the first after `settled_steps`, and
            the last.
        grown_percent: Growth of the memory between these two.
        step_ms_of_quarters: Median milliseconds of a step in each quarter of the steps between these two.
        samples: All samples, one per epoch.

    Raises:
        InputError: If the search fails.
    """
    folder = os.path.join(out_dir, "run")
    shutil.rmtree(folder, ignore_errors=True)
    arguments = [sys.executable, "-m", "pnas_tf.search", *_flags(out_dir, steps), f"--run_dir={folder}"]
    samples = []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if match := re.match(r"epoch (\d+)/", line):
                samples.append({"step": int(match[1]) * STEPS_PER_EPOCH, **_sample(process.pid)})
    if process.returncode:
        raise InputError(f"The search failed with exit code {process.returncode}; its last lines are above.")
    step_ms = [line["step_ms"] for line in RunFolder(folder).read_metrics()]
    settled = next(sample for sample in samples if sample["step"] >= settled_steps)
    after = step_ms[samples.index(settled) + 1:]
    quarters = [after[len(after) * part // 4:len(after) * (part + 1) // 4] for part in range(4)]
    return {"steps": samples[-1]["step"], "settled": settled, "last": samples[-1],
            "grown_percent": round(100 * (samples[-1]["rss_bytes"] / settled["rss_bytes"] - 1), 2),
            "step_ms_of_quarters": [round(statistics.median(part), 2) for part in quarters], "samples": samples}


def _flags(out_dir: str, steps: int) -> list[str]:
    space, table = steps_lib.write_made_up(out_dir, TINY, lambda number: 0.01 * (1 + number))
    return [f"--space={space}", f"--table={table}", "--dataset=fashion_mnist_small",
            f"--held_out_size={HELD_OUT}", f"--batch_size={BATCH}", "--arch_every=1", "--warmup_epochs=1",
            f"--search_epochs={steps // STEPS_PER_EPOCH - 1}", f"--checkpoint_minutes={1 / 60}"]


def _sample(pid: int) -> dict[str, int]:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (rss_kib,) = map(int, re.findall(r"VmRSS:\s+(\d+) kB", file.read()))
    return {"rss_bytes": 1024 * rss_kib, "open_files": len(os.listdir(f"/proc/{pid}/fd"))}


def _define_flags() -> None:
    flags.DEFINE_string("out_dir", "runs/soak", "Folder of the run and of soak.json.")
    flags.DEFINE_integer("steps", 2000, "Number of weight steps.", 500)
    flags.DEFINE_integer("settled_steps", 200, "Number of steps after which nothing may grow.", 100)


def _main() -> None:
    f = flags.FLAGS
    figures = run(f.out_dir, f.steps, f.settled_steps)
    path = os.path.join(f.out_dir, "soak.json")
    files.write_text(path, json.dumps(figures, indent=1) + "\n")
    settled, last = figures["settled"], figures["last"]
    print(f"\nResident memory: {settled['rss_bytes'] / 2**20:.1f} MiB after {settled['step']} steps, "
          f"{last['rss_bytes'] / 2**20:.1f} MiB after {last['step']} ({figures['grown_percent']:+.2f} %).\n"
          f"Open files: {settled['open_files']}, then {last['open_files']}.\n"
          f"Median ms of a step, quarter by quarter: {figures['step_ms_of_quarters']}.\nResults: {path}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
