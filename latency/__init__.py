"""Latency tables: how many milliseconds each op takes on a target. Makes, judges and corrects them."""
