"""Steps of long benchmarks."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Two commands that run until they are ended, side by side or one alone.
SIDE_BY_SIDE = ("list(steps.in_parallel([lambda n=n: steps.command('http.server', ['0'], f'{sys.argv[1]}/{n}.log') "
                "for n in (1, 2)], 2))")
ALONE = "steps.command('http.server', ['0'], sys.argv[1] + '/1.log')"
# A command that exists for a second before the benchmark knows it.
SLOW = """
import subprocess, time
class Slow(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        time.sleep(1)
subprocess.Popen = Slow
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize(("code", "count"), [
    (SIDE_BY_SIDE, 2), (ALONE, 1), (SLOW + SIDE_BY_SIDE, 2), (SLOW + ALONE, 1)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_benchmark_that_is_ended_ends_its_commands(tmp_path, code, count, number):
    code = f"import sys; from benchmarks import steps; {code}"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT,
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # nohup ignores SIGHUP
    deadline, running = time.monotonic() + 120, []
    while len(running) < count:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        running = [int(pid) for task in tasks for pid in task.read_text().split()]
    process.send_signal(number)
    assert process.wait(60) == -number
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
