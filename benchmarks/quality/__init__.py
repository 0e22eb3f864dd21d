"""Benchmarks of quality: whether searched networks are more accurate than others of the same cost."""
