"""Benchmarks of speed: seconds and memory of steps, of loading and of exported networks."""
