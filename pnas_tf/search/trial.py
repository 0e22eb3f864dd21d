"""Trains one finalist of a search in a process of its own, as pnas_tf.search with --trials starts it.

The process ends when its standard input does, so that it does not outlive the search.
"""

import json
import os
import sys
import threading

from absl import flags

from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import load_data
from pnas_tf.space import arch as arch_lib


def _main() -> None:
    f = flags.FLAGS
    try:
        config = SearchConfig(**json.loads(f.config))
    except (TypeError, ValueError):
        raise InputError("--config: expected the settings of a search as JSON. pnas_tf.search --trials starts this "
                         "command.") from None
    start.load_tensorflow()
    from pnas_tf.derive import trials
    from pnas_tf.search import side_by_side

    # After all imports: on Windows, loading a library may wait for whoever reads standard input.
    threading.Thread(target=_end_with_input, daemon=True).start()
    folder = RunFolder(f.run_dir)
    arch = arch_lib.load(folder.arch)
    data = load_data(config, arch.space, f.largest_size)
    trials.train(arch, data, side_by_side.recipe(config), folder)


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # not by sys.stdin, whose lock a process needs to end
    os._exit(1)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("run_dir", None, "Run folder of the trial, with arch.json.", required=True)
    flags.DEFINE_integer("largest_size", 0, "Size for which the search has image files prepared.", 0)
    flags.DEFINE_string("config", None, "Settings of the search, as JSON.", required=True)
    start.start(_main)


if __name__ == "__main__":
    main()
