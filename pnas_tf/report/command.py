"""The command `python -m pnas_tf.report`: its flags and its output."""

import os

from absl import flags

from pnas_tf import report
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.report import facts, page, summary


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder of a search or a training; report.html is written into it.")
    flags.DEFINE_list("compare", [], "Folders of runs to put side by side, separated by commas.")
    flags.DEFINE_string("output", "comparison.html", "Path of the page that --compare writes.")


def _main() -> None:
    f = flags.FLAGS
    if f.compare:
        run_dirs = [*([f.run_dir] if f.run_dir else []), *(name for name in f.compare if name != f.run_dir)]
        print(f"Comparison: {os.path.abspath(page.compare(run_dirs, f.output))}")
        return
    if not f.run_dir:
        raise InputError("Name the folder of a run, --run_dir=DIR, or folders to compare, --compare=DIR,DIR.")
    path = page.run(f.run_dir)
    results = [summary.summary(facts.collect(folder)) for folder in facts.parts(f.run_dir) or [f.run_dir]]
    print("\n\n".join(results) + f"\nReport:        {path}")


def main() -> None:
    """Runs the command; the console script `pnas-report` is this function."""
    _define_flags()
    start.start(_main, manual=report.__doc__)
