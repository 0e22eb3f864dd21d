"""Commands that users paste."""

import subprocess

import pytest

from pnas_tf import shell

WORDS = ["python", "--run_dir=my photos/a'b", '$(id) "x"', "", "a;b&c|d", "*", "\\"]


def test_the_shell_reads_the_words_back():
    printed = subprocess.run(["sh", "-c", f"printf '%s\\n' {shell.line(WORDS)}"], capture_output=True, text=True,
                             check=True)
    assert printed.stdout.splitlines() == WORDS


@pytest.mark.parametrize(("word", "expected"), [
    (r"--run_dir=runs\photos", r"--run_dir=runs\photos"), (r"C:\my photos\cat", r'"C:\my photos\cat"'),
    ("a&calc", '"a&calc"'), ('a" & calc & "', '"a & calc & "'), ("", '""'), ("--ms=5,10", '"--ms=5,10"'),
    ("a\ncalc", '"a\ncalc"')])
def test_words_for_windows(word, expected):
    """In PowerShell, a comma outside of quotes makes a list."""
    assert shell.word(word, for_windows=True) == expected
