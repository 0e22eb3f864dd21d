"""What is int8 worth beside a search? Exports the trained networks of the benchmark `photos` in int8.

    python -m benchmarks.quality.photos_int8 --output=runs/photos

--output is the folder of `photos`, whose log says which networks are trained. Each is converted to int8, tested on the
same images, and timed in turns with the whole Lite0 in float32. int8.jsonl has a line for each network, int8.md the
means. The benchmark can be stopped and started again at any time.
"""

import os
from typing import Any

from absl import flags

from benchmarks.quality import photo_results, photo_rivals, photos, study_results
from pnas_tf import files
from pnas_tf.cli import start

MODE = "int8"


def measured(benchmark: photos.Benchmark, row: dict[str, Any]) -> dict[str, Any]:
    """Exports and times one network.

    Args:
        benchmark: The benchmark that has trained it.
        row: Line of results.jsonl.

    Returns:
        The same line with the accuracy of the int8 file in the place of the network's, and with times of now.

    Raises:
        InputError: If the export fails.
    """
    folder, whole = (benchmark.network(row["folder"], row["seed"], rival)
                     for rival in (row["rival"], photo_rivals.BASE))
    # A file that loses more than the bound is a result, too.
    ms, lite0_ms = photos.in_turns(benchmark.exported(folder, MODE), whole.tflite("float32"))
    return {**row, "test_accuracy": files.read_json(folder.export_facts(MODE))["top1"], "ms": ms, "lite0_ms": lite0_ms}


def table(rows: list[dict[str, Any]], int8_rows: list[dict[str, Any]]) -> str:
    """Accuracy and milliseconds of each rival in int8 beside the whole Lite0 in float32, as a Markdown table.

    Args:
        rows: Lines of results.jsonl.
        int8_rows: Lines of int8.jsonl.
    """
    lines = ["| network in int8 | runs | test accuracy, % | to Lite0 in float32, points | 95 % interval | of its ms, % "
             "|", "| --- " * 6 + "|"]
    base = {(row["folder"], row["seed"]): row["test_accuracy"] for row in rows if row["rival"] == photo_rivals.BASE}
    for rival in (rival for rival in photo_rivals.ALL if any(row["rival"] == rival for row in int8_rows)):
        own = [row for row in int8_rows if row["rival"] == rival]
        accuracy, ms, lite0_ms = (photo_results.means(own, rival, field).mean()
                                  for field in ("test_accuracy", "ms", "lite0_ms"))
        pairs = [{**row, "gain": row["test_accuracy"] - base[row["folder"], row["seed"]]} for row in own]
        gains = photo_results.means(pairs, rival, "gain")
        lines.append(f"| {photo_results.label(rival)} | {len(own)} | {100 * accuracy:.1f} | "
                     f"{100 * gains.mean():+.1f} | {_interval(gains)} | {100 * ms / lite0_ms:.0f} |")
    return "\n".join(lines)


def _interval(gains):
    """The interval of a mean in points, as text; empty for a single value."""
    return " to ".join(f"{100 * end:+.1f}" for end in study_results.interval(gains)) if len(gains) > 1 else ""


def _main() -> None:
    benchmark = photos.Benchmark(flags.FLAGS.output, "")
    path = benchmark.path(f"{MODE}.jsonl")
    rows = photos.results(benchmark.log)
    done = {(row["folder"], row["rival"], row["seed"]) for row in photos.read(path)}
    missing = [row for row in rows if (row["folder"], row["rival"], row["seed"]) not in done]
    for number, row in enumerate(missing, start=1):
        result = measured(benchmark, row)
        files.append_line(path, result)
        print(f"{number} of {len(missing)}: {row['folder']}, seed {row['seed']}, {row['rival']}: "
              f"{row['test_accuracy']:.2%}, in int8 {result['test_accuracy']:.2%}", flush=True)
    int8_rows = photos.read(path)
    text = f"{table(rows, int8_rows)}\n\n{photo_results.differences(int8_rows)}"
    files.write_text(os.path.join(benchmark.output, f"{MODE}.md"), text + "\n")
    print(text)


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("output", None, "Folder of the benchmark photos.", required=True)
    start.start(_main)


if __name__ == "__main__":
    main()
