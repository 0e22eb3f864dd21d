"""Shared by all commands: their start, their help and their flags."""
