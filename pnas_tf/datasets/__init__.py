"""Embedded data sets, and readers of the files that data sets come in."""
