"""Long benchmarks in steps: each a command of the project in a process of its own, its result a line of a file.

A benchmark that was stopped finds the lines and goes on with the steps that are missing.
"""

import concurrent.futures
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder

# Environment of a process that shares the machine with others like it.
ONE_CORE = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")


def command(module: str, arguments: Sequence[str], log: str, *, launcher: Sequence[str] = (),
            environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Runs `python -m MODULE ARGUMENTS`: in a process of its own, whose memory is free again afterwards.

    Args:
        module: of the project.
        arguments: its flags.
        log: file for what it prints.
        launcher: command to put before it, such as `nice`.
        environment: variables to add.

    Returns:
        seconds and cpu_seconds that it took.

    Raises:
        InputError: if it fails, with the last line that it printed.
    """
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as file, \
            subprocess.Popen([*launcher, sys.executable, "-m", module, *arguments], stdout=file,
                             stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}) as process:
        _, status, used = os.wait4(process.pid, 0)  # what this one used, whatever runs beside it
        process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        with open(log, encoding="utf-8", errors="replace") as file:
            said = [line.strip() for line in file if line.strip()]
        raise InputError(f"python -m {module} failed ({log}): {said[-1][:300] if said else f'exit code {code}'}")
    return {"seconds": time.monotonic() - begin, "cpu_seconds": used.ru_utime + used.ru_stime}


def in_parallel(calls: Sequence[Callable[[], Any]], workers: int) -> Iterator[Any]:
    """Makes calls, so many at a time, and says how far it is.

    Yields:
        What they return, in the order in which they end.
    """
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(call) for call in calls]
        for done, future in enumerate(concurrent.futures.as_completed(running), start=1):
            yield future.result()
            seconds = (time.monotonic() - begin) / done * (len(calls) - done)
            print(f"{done} of {len(calls)}, {seconds / 60:.0f} min left", flush=True)


def lines(path: str) -> list[dict[str, Any]]:
    """What a file of JSON lines holds, a half last line left out; nothing if there is no such file.

    Raises:
        InputError: if another line is not a JSON object.
    """
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        whole = file.read().rpartition("\n")[0]
    try:
        found = [json.loads(line) for line in whole.splitlines()]
    except (ValueError, RecursionError):
        found = [None]
    if not all(isinstance(entry, dict) for entry in found):
        raise InputError(f"{path}: expected a JSON object in each line. Remove the file to begin anew.")
    return found


def add_line(path: str, entry: dict[str, Any]) -> None:
    """Adds one line, in place of a half one that a stopped program left."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(entry).encode() + b"\n")


def search_seconds(run_dir: str) -> float | None:
    """What the epochs of a search have taken so far, None before the first; with several goals all say the same."""
    folder = next((root for root, _, files in os.walk(run_dir) if "metrics.jsonl" in files), None)
    return None if folder is None else sum(line["seconds"] for line in RunFolder(folder).read_metrics())


def rounded_up(value: float, digits: int = 4) -> float:
    """A positive number with so many digits, not below it: a limit that what it was taken from keeps."""
    places = digits - 1 - math.floor(math.log10(value))
    return float(f"{math.ceil(round(value * 10.0**places, 6)) / 10.0**places:.{digits}g}")
