"""Searches as pnas_tf.search does, and times the last networks on the device itself before it delivers one.

    python -m latency.search --flagfile=quickstart.flags --table=host.jsonl --target_ms=0.5 --run_dir=runs/quickstart

For a device that is at hand: this machine, or a phone. Flags and run folder are those of pnas_tf.search; on the folder
of a search that is over, it only chooses anew. Best with a table that latency.compare has calibrated.
"""

from latency import network_timer
from pnas_tf import run_flags, search


def _main() -> None:
    search.by_flags(network_timer.of)


def main() -> None:
    """Entry point."""
    search.define_flags()
    run_flags.start(_main)


if __name__ == "__main__":
    main()
