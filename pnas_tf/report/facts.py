"""What a run folder holds, read for a report; nothing is made up, and what is not there yet is left out."""

import dataclasses
import os
import shlex
from typing import Any

from pnas_tf import files
from pnas_tf.errors import InputError, printable
from pnas_tf.files import number
from pnas_tf.report import early_warnings, op_profile
from pnas_tf.run_folder import RunFolder, versions
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch

MAX_COMPARED = 10_000


@dataclasses.dataclass(frozen=True)
class Compared:
    """Whole networks' milliseconds as a table predicts them and as they were measured: compare.json.

    Attributes:
        target: of the table.
        predicted_ms: of each network.
        measured_ms: of each network.
        within_10_percent: share of the networks, or None.
        rmse_of_mean: root mean square error over the mean, or None.
    """

    target: str | None
    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    within_10_percent: float | None
    rmse_of_mean: float | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the run folder holds.

    Attributes:
        run_dir: the folder.
        arch: the network found, if there is one yet.
        epochs: logged epochs of the search in order, as they stand in metrics.jsonl.
        train: train.json, or {}.
        exports: the <mode>.json there are.
        flags: flags of the search by name, or {}.
        finalists: of finalists.json, best first, or [].
        profiles: the <mode>.profile.json there are, by mode.
        starts: of versions.json, what the search was started with, or [].
        compared: compare.json, if it is there.
    """

    run_dir: str
    arch: Arch | None
    epochs: list[dict[str, Any]]
    train: dict[str, Any]
    exports: list[dict[str, Any]]
    flags: dict[str, str]
    finalists: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    profiles: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    compared: Compared | None = None

    def cost(self, name: str) -> float | None:
        """A number of the arch's costs."""
        return number(self.arch.costs.get(name)) if self.arch else None

    def size(self, name: str) -> float | None:
        """`params` or `macs`, of the trained network if it is known, else of the one found."""
        trained = number(self.train.get(name))
        return self.cost(name) if trained is None else trained

    @property
    def title(self) -> str:
        """Space and data set."""
        space = self.arch.space.name if self.arch else self.flags.get("space", "search")
        return (f"{space} on {self.dataset}" if self.dataset else space)[:300]

    @property
    def dataset(self) -> str | None:
        """Name of the data set."""
        return self.flags.get("dataset") or text(self.train.get("dataset"))

    @property
    def target(self) -> str | None:
        """Name of the device that was searched for."""
        return text(self.arch.costs.get("target")) if self.arch else None

    @property
    def target_ms(self) -> float | None:
        """Milliseconds that the search aimed at, if it did: as the arch says, else as the flags say."""
        if self.flags.get("latency_loss") == "none":
            return None
        wanted = self.cost("target_ms") or number_of_text(self.flags.get("target_ms"))
        return wanted if wanted and wanted > 0 else None

    @property
    def measured(self) -> dict[str, Any] | None:
        """The export that was timed: on the target that was searched for if there is one, else the first."""
        timed = [export for export in self.exports if number(export.get("measured_ms")) is not None]
        same = [export for export in timed if self.target and export.get("target") == self.target]
        return next(iter(same + timed), None)

    @property
    def measured_on_target(self) -> float | None:
        """Its milliseconds, if it was timed on the target that was searched for."""
        export = self.measured
        if export is None or not self.target or export.get("target") != self.target:
            return None
        return number(export["measured_ms"])

    @property
    def seconds_searched(self) -> float | None:
        """Of all epochs that say how long they took."""
        known = [value for epoch in self.epochs if (value := number(epoch.get("seconds"))) is not None]
        return sum(known) if known else None

    def table_flag(self) -> str:
        """`--table=...` of a command about the search's table."""
        return f"--table={shlex.quote(self.flags.get('table') or 'TABLE.jsonl')}"


def collect(run_dir: str) -> Facts:
    """Reads a run folder.

    Raises:
        InputError: if it is missing or holds neither arch.json nor metrics, or a file that cannot be read.
    """
    def path(name: str) -> str:
        return RunFolder(run_dir).file(name)

    if not os.path.isdir(run_dir):
        raise InputError(f"{run_dir}: no such folder. Give --run_dir the folder of a search.")
    arch = arch_lib.from_json(files.read_json(path("arch.json")), path("arch.json")) \
        if os.path.exists(path("arch.json")) else None
    epochs = [epoch for epoch in RunFolder(run_dir).read_metrics() if number(epoch["epoch"]) is not None]
    if arch is None and not epochs:
        raise InputError(f"{run_dir}: nothing to report, neither arch.json nor an epoch in metrics.jsonl. "
                         "Search first: python -m pnas_tf.search --flagfile=quickstart.flags "
                         f"--run_dir={shlex.quote(run_dir)}")
    exports = [{**_read_object(path(f"{mode}.json")), "mode": mode} for mode in run_folder.MODES
               if os.path.exists(path(f"{mode}.json"))]
    train = _read_object(path("train.json")) if os.path.exists(path("train.json")) else {}
    used = run_folder.read_flags(path("run.flags")) if os.path.exists(path("run.flags")) else {}
    rivals = _read_object(path("finalists.json")).get("finalists") if os.path.exists(path("finalists.json")) else []
    rivals = [rival for rival in rivals if isinstance(rival, dict)] if isinstance(rivals, list) else []
    profiles = {mode: op_profile.read(path(f"{mode}.profile.json")) for mode in run_folder.MODES
                if os.path.exists(path(f"{mode}.profile.json"))}
    compared = _compared(path("compare.json")) if os.path.exists(path("compare.json")) else None
    return Facts(run_dir, arch, epochs, train, exports, used, rivals, profiles, versions.read(run_dir), compared)


def parts(run_dir: str) -> list[str]:
    """Folders of the goals of a search for several devices, in the folder of the search; none of other searches."""
    inside = sorted(os.listdir(run_dir)) if os.path.isdir(run_dir) else []
    if "arch.json" in inside:
        return []
    return [RunFolder(run_dir).file(name) for name in inside
            if os.path.isfile(RunFolder(run_dir).file(name, "arch.json"))]


def warnings(facts: Facts) -> list[str]:
    """What is suspicious about a search, a sentence each."""
    return early_warnings.find(facts.epochs, facts.target_ms, facts.finalists)


def _compared(path: str) -> Compared:
    data = _read_object(path)
    networks, figures = data.get("networks"), data.get("figures")
    pairs = [(number(one.get("predicted_ms")), number(one.get("measured_ms"))) for one in networks
             if isinstance(one, dict)] if isinstance(networks, list) else []
    known = [(predicted, measured) for predicted, measured in pairs if predicted and measured
             and predicted > 0 and measured > 0][:MAX_COMPARED]
    if not known:
        raise InputError(f"{path}: does not hold a comparison as latency.compare writes it. Write it again: "
                         f"python -m latency.compare --table=TABLE.jsonl --json={shlex.quote(path)}")
    figures = figures if isinstance(figures, dict) else {}
    return Compared(text(data.get("target")), tuple(predicted for predicted, _ in known),
                    tuple(measured for _, measured in known), number(figures.get("within_10_percent")),
                    number(figures.get("rmse_of_mean")))


def _read_object(path: str) -> dict[str, Any]:
    data = files.read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {str(data)[:40]!r}. Write it again.")
    return data


def number_of_text(value: str | None) -> float | None:
    """As `number`, for a flag's text."""
    try:
        return None if value is None else number(float(value))
    except (TypeError, ValueError):
        return None


def text(value: Any) -> str | None:
    """A text as one line of at most 200 characters, everything else as None."""
    return printable(value, 200) if isinstance(value, str) and value else None
