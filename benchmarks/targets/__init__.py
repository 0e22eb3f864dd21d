"""Whether networks take the milliseconds asked for."""
