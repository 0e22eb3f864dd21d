"""Runs one file of tests with pytest: what the targets of tests/BUILD start."""

import sys

import pytest

if __name__ == "__main__":
    code = pytest.main(["--import-mode=importlib", "-p", "no:cacheprovider", "-m", "not slow", "-q", *sys.argv[1:]])
    # Where all tests of a file are slow, none is left to run.
    sys.exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)
