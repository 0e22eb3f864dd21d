"""Runs one file of tests with pytest: what the targets of tests/BUILD start."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["--import-mode=importlib", "-p", "no:cacheprovider", "-m", "not slow", "-q", *sys.argv[1:]]))
