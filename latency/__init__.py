"""Makes, judges and corrects latency tables: the milliseconds of each op on a target."""

from pnas_tf import siblings

siblings.check("export", __name__)
