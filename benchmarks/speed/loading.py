"""Seconds and memory to load a folder of 50,000 images and a latency table of 100,000 rows.

    python -m benchmarks.speed.loading --out_dir=runs/loading

The benchmark makes both in --out_dir, and loads each in a process of its own. Writes loading.json into --out_dir.
"""

import json
import os
import subprocess
import sys
from typing import Any

from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table
from pnas_tf.space.blocks import OpKey

CLASSES = 100

# Program that loads one of the two; prints seconds and growth of the peak memory since everything was imported.
MEASURE = """
import json, sys, time
import tensorflow  # which pnas_tf.data would import when it is first used
from benchmarks.speed.figures import rss_mb
from pnas_tf import data
from pnas_tf.cost import latency_table
def peak():
    return int(2**20 * rss_mb())
what, path = sys.argv[1:]
before, begin, cpu = peak(), time.monotonic(), time.process_time()
if what == "folder":
    loaded = data.load(f"folder:{path}", image_size=32)
    listed, cpu = time.monotonic() - begin, time.process_time() - cpu
    images, _ = next(iter(loaded.train.batches(64, augment=True, seed=0)))
    count = loaded.train.size + loaded.held_out.size + loaded.test.size
    more = {"first_batch_seconds": time.monotonic() - begin - listed}
    begin, begin_cpu = time.monotonic(), time.process_time()
    [part.fingerprint for part in (loaded.train, loaded.held_out, loaded.test)]
    more["fingerprint_seconds"] = time.monotonic() - begin
    more["fingerprint_cpu_seconds"] = time.process_time() - begin_cpu
else:
    more = {}
    table = latency_table.read(path)
    listed, cpu, count = time.monotonic() - begin, time.process_time() - cpu, len(table.rows)
print(json.dumps({"count": count, "seconds": listed, "cpu_seconds": cpu, "bytes": peak() - before, **more}))
"""


def run(out_dir: str, images: int, rows: int) -> dict[str, dict[str, Any]]:
    """Makes a folder of images and a table, and loads them.

    Args:
        out_dir: Folder of both.
        images: Number of images in the folder.
        rows: Number of rows of the table.

    Returns:
        By `folder` and `table`: count, seconds, cpu_seconds, and bytes of memory; for the folder first_batch_seconds
        and fingerprint_seconds (fingerprint_cpu_seconds), too.
    """
    folder, table = os.path.join(out_dir, "images"), os.path.join(out_dir, "table.jsonl")
    _make_folder(folder, images)
    _make_table(table, rows)
    return {what: json.loads(subprocess.run([sys.executable, "-c", MEASURE, what, path], check=True, text=True,
                                            stdout=subprocess.PIPE).stdout)
            for what, path in (("folder", folder), ("table", table))}


def _make_folder(folder: str, images: int) -> None:
    """Makes links to one image: the time to list a folder depends on the number of names."""
    import numpy as np
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    first = os.path.join(os.path.dirname(folder), "image.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(first)
    for number in range(images):
        class_folder = os.path.join(folder, f"class_{number % CLASSES:03d}")
        os.makedirs(class_folder, exist_ok=True)
        file_path = os.path.join(class_folder, f"image_{number:06d}.jpg")
        if not os.path.lexists(file_path):
            os.symlink(os.path.abspath(first), file_path)


def _make_table(path: str, rows: int) -> None:
    lines = [latency_table.header("many")]
    for number in range(rows):
        key = OpKey("mb_k3_e6", (7, 7, 1 + number // 1000), 1 + number % 1000, 1, False)
        lines.append(latency_table.row(key, median_ms=0.1, min_ms=0.1, mean_ms=0.1, std_ms=0.0, runs=50))
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def _define_flags() -> None:
    flags.DEFINE_string("out_dir", "runs/loading", "Folder of the images, the table and loading.json.")
    flags.DEFINE_integer("images", 50_000, "Number of images in the folder.", 1000)
    flags.DEFINE_integer("rows", 100_000, "Number of rows of the table.", 1)


def _main() -> None:
    f = flags.FLAGS
    facts_by_kind = run(f.out_dir, f.images, f.rows)
    path = os.path.join(f.out_dir, "loading.json")
    files.write_text(path, json.dumps(facts_by_kind, indent=1) + "\n")
    for what, facts in facts_by_kind.items():
        more = (f"; first batch after {facts['first_batch_seconds']:.2f} s more, fingerprint in "
                f"{facts['fingerprint_seconds']:.2f} s ({facts['fingerprint_cpu_seconds']:.2f} s of CPU)"
                if what == "folder" else "")
        print(f"{what}: {facts['count']:,} in {facts['seconds']:.2f} s ({facts['cpu_seconds']:.2f} s of CPU), "
              f"{facts['bytes'] / 2**20:.0f} MiB{more}")
    print(f"Results: {path}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
