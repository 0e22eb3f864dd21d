"""Searches as pnas_tf.search does, and times the last networks on the device itself before it delivers one.

    python -m latency.search --flagfile=quickstart.flags --table=host.jsonl --target_ms=0.5 --run_dir=runs/quickstart

For a device that is at hand: this machine, or a phone. Flags and run folder are those of pnas_tf.search; on the folder
of a search that is over, it only chooses anew. Best with a table that latency.compare has calibrated.
"""

from latency import network_timer
from pnas_tf.cli import start
from pnas_tf.search import command as search_command


def _main() -> None:
    search_command.by_flags(network_timer.of)


def main() -> None:
    """Entry point."""
    search_command.define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
