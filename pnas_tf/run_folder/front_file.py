"""front.json: the best network at each of several budgets."""

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.files import number
from pnas_tf.run_folder.folder import FRONT, RunFolder

FORMAT = "pnas_tf.front/1"
_FOLDER = re.compile(r"[0-9.e+-]{1,20}ms")


@dataclasses.dataclass(frozen=True)
class FrontNetwork:
    """A network of a front.

    Attributes:
        ms: Milliseconds by the table.
        folder: Name of its folder.
        how: Origin of the network, or None.
        gain: Accuracy, -1 to 1, that the best network within the target is expected to have above that of this one.
        gain_error: Standard error of `gain`.
        delivered: Whether the search delivered it.
        costs: Costs by name: ms, params, macs and those of further limits.
        ops: Op of each choice.
        expected_loss: Held-out loss that is expected of the network, or None.
        accuracy: Held-out accuracy with inherited weights, 0 to 1, or None.
        image_size: Height and width of its images where a search had several sizes, or None.
    """

    ms: float
    folder: str
    how: str | None
    gain: float
    gain_error: float
    delivered: bool
    costs: dict[str, float]
    ops: dict[str, str]
    expected_loss: float | None = None
    accuracy: float | None = None
    image_size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of front.json."""
        size = {} if self.image_size is None else {"image_size": self.image_size}
        return {"ms": self.ms, "folder": self.folder, "how": self.how, "costs": self.costs,
                "expected_loss": self.expected_loss, "gain": self.gain, "gain_error": self.gain_error,
                "held_out_accuracy": self.accuracy, "delivered": self.delivered, "ops": self.ops, **size}


def save(path: str, target: str, target_ms: float | None, networks: Sequence[FrontNetwork]) -> None:
    """Writes front.json.

    Args:
        path: Path of the file.
        target: Name of the target.
        target_ms: Milliseconds that were asked for, or None.
        networks: Networks of the front.
    """
    files.write_text(path, json.dumps({"format": FORMAT, "target": target, "target_ms": target_ms,
                                       "networks": [each.to_json() for each in networks]}, indent=1) + "\n")


def read(path: str) -> list[FrontNetwork]:
    """Reads the networks of a front, by milliseconds; entries that make no sense are left out.

    Args:
        path: Path of front.json, untrusted.

    Raises:
        InputError: If the file cannot be read or is not a front.
    """
    data = files.read_json(path)
    entries = data.get("networks") if isinstance(data, dict) and data.get("format") == FORMAT else None
    if not isinstance(entries, list):
        raise InputError(f"{path}: not a front as pnas_tf.search writes it. Search again.")
    return sorted((network for network in map(_network, entries) if network), key=lambda network: network.ms)


def picked(folder: RunFolder, text: str) -> RunFolder:
    """The folder of the largest network of a front within some milliseconds.

    Args:
        folder: Folder of a search.
        text: Milliseconds, such as `3.2ms` or `3.2`; as printed, so they may be rounded.

    Raises:
        InputError: If there is no front, the text is no time, or every network takes longer.
    """
    try:
        ms = float(text.strip().removesuffix("ms"))
    except ValueError:
        ms = -1.0
    if not 0 < ms < 1e7:
        raise InputError(f"--pick must be milliseconds such as 3.2ms, got {shown(text)}.")
    if not os.path.exists(folder.front):
        raise InputError(f"{folder.front} is missing: --pick needs the folder of a finished search.")
    networks = read(folder.front)
    # As printed, with 3 or 4 digits; or else the largest that is not slower.
    named = [network for network in networks if ms in (float(f"{network.ms:.3g}"), float(f"{network.ms:.4g}"))]
    within = named or [network for network in networks if network.ms <= ms]
    if not within:
        there = ", ".join(f"{network.ms:.3g}" for network in networks)
        raise InputError(f"No network of the front takes {ms:g} ms or less. There are networks of {there} ms (--pick).")
    found = RunFolder(folder.file(FRONT, within[-1].folder))
    if not os.path.exists(found.arch):
        raise InputError(f"{folder.front} names the network {found}, which is missing. Search again, or pick another "
                         "one (--pick).")
    if os.path.realpath(found.path) != os.path.join(os.path.realpath(folder.path), FRONT, within[-1].folder):
        raise InputError(f"{found} is a link to another folder, where nothing is written. Copy that folder here.")
    return found


def _network(entry) -> FrontNetwork | None:
    if not isinstance(entry, dict):
        return None
    ms, gain, error = (number(entry.get(name)) for name in ("ms", "gain", "gain_error"))
    name, costs = entry.get("folder"), entry.get("costs")
    if ms is None or ms <= 0 or gain is None or error is None or not isinstance(name, str) \
            or not _FOLDER.fullmatch(name):
        return None
    how = entry.get("how")
    ops = entry.get("ops")
    texts = {str(key): each for key, each in ops.items() if isinstance(each, str)} if isinstance(ops, dict) else {}
    numbers = {str(key): value for key, each in costs.items() if (value := number(each)) is not None} \
        if isinstance(costs, dict) else {}
    side, accuracy = number(entry.get("image_size")), number(entry.get("held_out_accuracy"))
    return FrontNetwork(ms, name, how if isinstance(how, str) else None, gain, error, entry.get("delivered") is True,
                        numbers, texts, number(entry.get("expected_loss")),
                        accuracy if accuracy is not None and 0 <= accuracy <= 1 else None,
                        int(side) if side and 0 < side < 1e5 else None)
