"""How fast: steps, loading, exports."""
