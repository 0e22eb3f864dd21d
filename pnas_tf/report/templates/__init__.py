"""Templates of the pages that entry points write."""
