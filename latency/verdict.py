"""The last words of a comparison: what it says about the table, and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

from pnas_tf import shell
from pnas_tf.cost import table_accuracy, table_commands
from pnas_tf.cost.latency_table import LatencyTable


def figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a comparison that `table_accuracy.verdict` judges by.

    Args:
        result: Result of `compare.run`.
    """
    return {**result["figures"], "noise_bias": result["noise"]["bias"],
            "noise_rmse_of_mean": result["noise"]["rmse_of_mean"]}


def words(table: LatencyTable, result: Mapping[str, Any], space_flags: Sequence[str], times: str | None) -> str:
    """The verdict about a table, and what to do about it.

    Args:
        table: The table.
        result: Result of `compare.run`.
        space_flags: Flags that name the space, for a command to paste.
        times: Path of the file that keeps the networks' times, or None.
    """
    judged = table_accuracy.verdict(figures(result), table.header.get("measurer"))
    assert judged, "a comparison has all figures"
    if judged.state == table_accuracy.UNJUDGED:
        removed = f"remove {shell.word(times)} and " if times else ""
        return f"{judged.words} When it is idle, {removed}run the same command again."
    if judged.state == table_accuracy.OFF:
        return (f"{judged.words} Build another one: "
                f"{table_commands.build(table.header, space_flags, table_commands.another(table.file))}")
    if judged.state == table_accuracy.SCATTERED:
        return f"{judged.words} Run the same command with --calibrate=100, which fits the rows to whole networks."
    return judged.words
