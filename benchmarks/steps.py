"""Runs the steps of a long benchmark: each step is a command of the project, run in a process of its own."""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pnas_tf import files, machine
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space.blocks import Space

ONE_CORE = machine.thread_settings(1)
# The commands that run now. A signal that ends this process has to end them too.
_RUNNING: set[int] = set()  # process IDs
_CHANGING = threading.Lock()  # held while a command is started or taken out


def write_made_up(folder: str, space: Space, ms: Callable[[int], float]) -> tuple[str, str]:
    """Writes a space and a latency table of made-up rows for it.

    Args:
        folder: Folder of space.json and table.jsonl.
        space: Space.
        ms: Function from the number of an op, in the order of the space, to its milliseconds.

    Returns:
        The paths of the two files.
    """
    space_file, table_file = (os.path.join(folder, name) for name in ("space.json", "table.jsonl"))
    files.write_text(space_file, json.dumps(space.to_json()) + "\n")
    keys = dict.fromkeys(key for _, key in space.op_keys())
    rows = [latency_table.header("made_up"), *(latency_table.row(key, median_ms=ms(number))
                                               for number, key in enumerate(keys))]
    files.write_text(table_file, "".join(json.dumps(row) + "\n" for row in rows))
    return space_file, table_file


def command(module: str, arguments: Sequence[str], log: str, *, launcher: Sequence[str] = (),
            environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Runs `python -m MODULE ARGUMENTS` in a process of its own, so that its memory is free again afterwards.

    Args:
        module: Module of the project to run.
        arguments: Flags of the command.
        log: File that receives what the command prints.
        launcher: Command that goes before it, such as `nice`.
        environment: Environment variables to add.

    Returns:
        The `seconds` and `cpu_seconds` that the command took.

    Raises:
        InputError: If the command fails. The message ends with the last line that the command printed.
    """
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    begin = time.monotonic()
    _end_together()
    with open(log, "w", encoding="utf-8") as file:
        with _CHANGING:
            process = subprocess.Popen([*launcher, sys.executable, "-m", module, *arguments], stdout=file,
                                       stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
            _RUNNING.add(process.pid)
        _, status, usage = os.wait4(process.pid, 0)  # the usage of this process alone, whatever runs beside it
        process.returncode = code = os.waitstatus_to_exitcode(status)
        with _CHANGING:
            _RUNNING.discard(process.pid)
    if code:
        with open(log, encoding="utf-8", errors="replace") as file:
            printed = [line.strip() for line in file if line.strip()]
        raise InputError(f"python -m {module} failed ({log}): {printed[-1][:300] if printed else f'exit code {code}'}")
    return {"seconds": time.monotonic() - begin, "cpu_seconds": usage.ru_utime + usage.ru_stime}


def in_parallel(calls: Sequence[Callable[[], Any]], workers: int) -> Iterator[Any]:
    """Makes calls in parallel and prints the progress.

    Args:
        calls: Functions to call.
        workers: Number of calls at a time.

    Yields:
        The results of the calls, in the order in which the calls end.
    """
    begin = time.monotonic()
    _end_together()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(call) for call in calls]
        for done, future in enumerate(concurrent.futures.as_completed(running), start=1):
            yield future.result()
            seconds = (time.monotonic() - begin) / done * (len(calls) - done)
            print(f"{done} of {len(calls)}, {seconds / 60:.0f} min left", flush=True)


def _end_together():
    """Makes a SIGTERM or SIGHUP to this process end the commands that run, too. Ctrl-C reaches them by itself."""
    def end(number):
        with _CHANGING:
            for process_id in _RUNNING:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process_id, signal.SIGTERM)
            os.kill(os.getpid(), number)

    def on_signal(number, _):  # the thread that it interrupts may be the one that starts a command
        signal.signal(number, signal.SIG_DFL)
        threading.Thread(target=end, args=(number,)).start()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, on_signal)


def search_seconds(run_dir: str) -> float | None:
    """Seconds that the epochs of a search have taken so far.

    Args:
        run_dir: Folder of the search. A search for several goals logs the same seconds in the folder of each goal.

    Returns:
        The sum over epochs; None before the first epoch has ended.
    """
    folder = next((root for root, _, _ in os.walk(run_dir) if os.path.exists(RunFolder(root).metrics)), None)
    return None if folder is None else sum(line["seconds"] for line in RunFolder(folder).read_metrics())
