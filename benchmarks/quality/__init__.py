"""Whether the networks found are good."""
