"""Flag files that ship with the package: `--flagfile=quickstart.flags` finds them by name."""
