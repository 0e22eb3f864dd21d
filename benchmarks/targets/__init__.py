"""Benchmarks of targets: whether delivered networks take the milliseconds that were asked for."""
