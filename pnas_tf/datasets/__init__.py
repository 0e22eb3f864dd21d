"""The data sets that ship with the package."""
