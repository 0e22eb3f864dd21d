"""Code for apps, of which export.apps fills in the constants."""
