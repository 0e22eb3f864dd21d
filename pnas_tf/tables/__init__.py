"""Latency tables that ship with the package."""
