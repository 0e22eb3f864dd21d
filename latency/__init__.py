"""Makes latency tables: how long each op takes on a target."""
