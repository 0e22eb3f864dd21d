"""Commands against files of attackers: one line and the right exit code, within seconds and 4 GB, and nothing changed.

    python -m pytest -s -m slow tests/attacks
"""

import collections
import hashlib
import os
import re
import subprocess

import pytest

from tests import forked
from tests.attacks.table import ATTACKS

SECONDS, MEMORY_BYTES = 60, 4 * 10**9
HELD: collections.Counter[str] = collections.Counter()


@pytest.mark.parametrize("attack", [pytest.param(attack, id=f"{attack.area}-{attack.name}".replace(" ", "_"),
                                                 marks=[] if attack.quick else [pytest.mark.slow])
                                    for attack in ATTACKS])
def test_an_attack_is_refused(attack, tmp_path):
    for name in ("home", "temporary", "run"):
        (tmp_path / name).mkdir()
    for name, make in attack.files.items():
        os.makedirs(tmp_path / os.path.dirname(name), exist_ok=True)
        make(str(tmp_path / name))
    before = state(tmp_path)
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    try:
        done = forked.run(attack.command.split(), cwd=tmp_path, env=environment, timeout=SECONDS,
                          memory_bytes=MEMORY_BYTES)
    except subprocess.TimeoutExpired:
        pytest.fail(f"hangs: more than {SECONDS} s")
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output[-3000:]
    assert done.returncode == attack.exits, output[-3000:]
    if attack.exits == 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1 and errors[0].isprintable() and len(errors[0]) < 2500, output[-3000:]
    assert re.search(attack.says, output, flags=re.DOTALL), output[-3000:]
    assert state(tmp_path) == before, "a file outside the run folder has changed"
    HELD[attack.area] += 1


def test_names_are_unique():
    names = [(attack.area, attack.name) for attack in ATTACKS]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_the_counts_in_the_documentation():
    text = (forked.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for area, count in collections.Counter(attack.area for attack in ATTACKS).items():
        assert f"| {area} | {count} |" in text, f"{area}: {count}"


def state(folder):
    """What each file outside the run folder is, by path: a link's target, or size and digest of a small file."""
    found = {}
    for place, folders, names in os.walk(folder):
        if os.path.relpath(place, folder) == ".":
            folders.remove("run")
        for name in (*folders, *names):
            path, status = os.path.join(place, name), os.lstat(os.path.join(place, name))
            small = os.path.isfile(path) and not os.path.islink(path) and status.st_size < 10**6
            digest = hashlib.sha256(open(path, "rb").read()).hexdigest() if small else ""  # noqa: SIM115
            found[path] = (status.st_mode, status.st_size, os.readlink(path) if os.path.islink(path) else digest)
    return found
