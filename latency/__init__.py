"""Makes, judges and corrects latency tables: the milliseconds of each op on a target."""
