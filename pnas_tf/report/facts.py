"""The contents of a run folder, read for a report. Files that do not exist yet are left out."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from pnas_tf import files, shell
from pnas_tf.errors import InputError, printable
from pnas_tf.files import number
from pnas_tf.report import early_warnings, mistakes, op_profile, small_data
from pnas_tf.report.mistakes import Mistakes
from pnas_tf.report.small_data import HeldOut
from pnas_tf.run_folder import RunFolder, exports, front_file, measured, versions
from pnas_tf.run_folder.folder import MODES
from pnas_tf.run_folder.front_file import FrontNetwork
from pnas_tf.run_folder.measured import Measured
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch

# Largest number of networks of compare.json that are read.
MAX_COMPARED = 10_000


@dataclasses.dataclass(frozen=True)
class Compared:
    """Milliseconds of whole networks, as a table predicts them and as they were measured: compare.json.

    Attributes:
        target: Target of the table; None if it is not named.
        predicted_ms: Predicted milliseconds of each network.
        measured_ms: Measured milliseconds of each network.
        within_10_percent: Share of networks whose prediction is within 10 % of the measurement, 0 to 1, or None.
        rmse_of_mean: Root mean square error, divided by the mean of the measurements, or None.
    """

    target: str | None
    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    within_10_percent: float | None
    rmse_of_mean: float | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """The contents of a run folder.

    Attributes:
        run_dir: Path of the folder.
        arch: Network of the search or training; None if there is none yet.
        epochs: Logged epochs of the search in order, as they stand in metrics.jsonl.
        train: Contents of train.json, or {}.
        exports: Contents of each <mode>.json of the present model, with its mode.
        flags: Flags of the search by name, or {}.
        finalists: Finalists of the search, best first, as they stand in finalists.json, or [].
        held_out: Images that the finalists were scored on, or None.
        profiles: Contents of each <mode>.profile.json, by mode.
        starts: Versions at each start of the search, from versions.json, or [].
        compared: Contents of compare.json, or None.
        mistakes: Contents of mistakes.json, or None.
        front: Networks of front.json by milliseconds, or [].
        stale: Modes of the exports of an earlier model.
        teacher: Contents of train.json of the search's teacher, or {}.
        bundle: Contents of bundle.json in the bundle for an app, or {}.
        widths: Contents of the run folder of the first stage, in which filters were searched, or None.
    """

    run_dir: str
    arch: Arch | None
    epochs: list[dict[str, Any]]
    train: dict[str, Any]
    exports: list[dict[str, Any]]
    flags: dict[str, str]
    finalists: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    held_out: HeldOut | None = None
    profiles: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    compared: Compared | None = None
    mistakes: Mistakes | None = None
    front: list[FrontNetwork] = dataclasses.field(default_factory=list)
    stale: list[str] = dataclasses.field(default_factory=list)
    teacher: dict[str, Any] = dataclasses.field(default_factory=dict)
    bundle: dict[str, Any] = dataclasses.field(default_factory=dict)
    widths: "Facts | None" = None

    def cost(self, name: str) -> float | None:
        """A number of the arch's costs by name, or None."""
        return number(self.arch.costs.get(name)) if self.arch else None

    def size(self, name: str) -> float | None:
        """`params` or `macs` of the trained network if they are known, else of the arch."""
        trained = number(self.train.get(name))
        return self.cost(name) if trained is None else trained

    @property
    def title(self) -> str:
        """Names of space and data set."""
        space = self.arch.space.name if self.arch else self.flags.get("space", "search")
        return (f"{space} on {self.dataset}" if self.dataset else space)[:300]

    @property
    def dataset(self) -> str | None:
        """Name of the data set, if it is known."""
        return self.flags.get("dataset") or text(self.train.get("dataset"))

    @property
    def target(self) -> str | None:
        """Name of the target that the search was for, if it is known."""
        return text(self.arch.costs.get("target")) if self.arch else None

    @property
    def device(self) -> str | None:
        """Device that the search's table was timed on, if it is known."""
        return text(self.arch.costs.get("device")) if self.arch else None

    @property
    def target_ms(self) -> float | None:
        """Milliseconds that the search aimed at, from the arch or else from the flags; None without such a target."""
        if self.flags.get("latency_loss") == "none":
            return None
        target_ms = self.cost("target_ms") or number_of_text(self.flags.get("target_ms"))
        return target_ms if target_ms and target_ms > 0 else None

    @property
    def is_unfinished(self) -> bool:
        """Whether the search runs or was stopped: its network is the best so far."""
        return bool(self.epochs and not self.finalists and not self.train)

    @property
    def measured(self) -> dict[str, Any] | None:
        """The export that was timed on the search's target; if there is none, the first timed export."""
        timed = [export for export in self.exports if number(export.get("measured_ms")) is not None]
        return next(iter([export for export in timed if self._is_timed_as_rows(export)] + timed), None)

    @property
    def measured_on_target(self) -> float | None:
        """Milliseconds of the timed export; None if it was not timed on the search's target."""
        export = self.measured
        return number(export["measured_ms"]) if export is not None and self._is_timed_as_rows(export) else None

    def is_of_target(self, export: dict[str, Any]) -> bool:
        """Whether an export was timed on the search's target: one of that name, on the same device if both are known.

        Tables of two computers have the same target unless --target_name tells them apart.
        """
        device = text(export.get("device"))
        return (self.target is not None and export.get("target") == self.target
                and (device is None or self.device in (None, device)))

    def _is_timed_as_rows(self, export: dict[str, Any]) -> bool:
        """Whether an export was timed as the table's rows were: on the search's target, with one image at a time."""
        ends = export.get("input")
        shape = ends.get("shape") if isinstance(ends, dict) else None
        images = shape[0] if isinstance(shape, list) and shape else 1
        return self.is_of_target(export) and images == 1

    @property
    def time_on_target(self) -> Measured | None:
        """The time of the timed export; None if it was not timed on the search's target."""
        return None if self.measured_on_target is None else measured.of_export(self.measured or {})

    @property
    def seconds_searched(self) -> float | None:
        """Sum of the logged seconds of all epochs, those of other image sizes included; None if no epoch has any."""
        seconds = [value for epoch in self.epochs for name in ("seconds", "seconds_of_other_sizes")
                   if (value := number(epoch.get(name))) is not None]
        return sum(seconds) if seconds else None


def collect(run_dir: str) -> Facts:
    """Reads a run folder.

    Args:
        run_dir: Path of the folder of a search or a training.

    Raises:
        InputError: If the folder is missing or holds neither a network nor epochs of a search, or if a file in it is
            damaged.
    """
    stage = RunFolder(RunFolder(run_dir).first_stage)
    facts = _collected(run_dir)
    return dataclasses.replace(facts, widths=_collected(stage.path)) if os.path.exists(stage.arch) else facts


def _collected(run_dir: str) -> Facts:
    folder = RunFolder(run_dir)
    if not os.path.isdir(run_dir):
        raise InputError(f"{run_dir}: no such folder. Name the folder of a search by --run_dir.")
    arch = arch_lib.from_json(files.read_json(folder.arch), folder.arch) if os.path.exists(folder.arch) else None
    epochs = [epoch for epoch in folder.read_metrics() if number(epoch["epoch"]) is not None]
    if arch is None and not epochs:
        raise InputError(f"{run_dir}: nothing to report, neither arch.json nor an epoch in metrics.jsonl. "
                         "Search first: python -m pnas_tf.search --flagfile=quickstart.flags "
                         f"--run_dir={shell.word(run_dir)}")
    finalists = _object_if_there(folder.finalists)
    exported = [{**_read_object(folder.export_facts(mode)), "mode": mode} for mode in MODES
                if os.path.exists(folder.export_facts(mode))]
    stale = [export["mode"] for export in exported if exports.is_stale(run_dir, export)]
    return Facts(
        run_dir, arch, epochs,
        train=_object_if_there(folder.training_facts),
        exports=[export for export in exported if export["mode"] not in stale],
        stale=stale,
        flags=folder.read_flags() if os.path.exists(folder.flags) else {},
        finalists=_finalists(finalists),
        held_out=small_data.held_out(finalists),
        profiles={export["mode"]: profile for export in exported if export["mode"] not in stale
                  and (profile := _profile(folder, export))},
        starts=versions.read(run_dir),
        compared=_read_compared(folder.comparison) if os.path.exists(folder.comparison) else None,
        mistakes=mistakes.read(folder.mistakes) if os.path.exists(folder.mistakes) else None,
        front=front_file.read(folder.front) if os.path.exists(folder.front) else [],
        teacher=_teacher(folder),
        bundle=_bundle(folder, exported))


def _profile(folder: RunFolder, export: dict[str, Any]) -> dict[str, Any] | None:
    """The profile of an exported file; None if there is none, or it is that of an earlier file of the same mode."""
    path = folder.profile(export["mode"])
    profile = op_profile.read(path) if os.path.exists(path) else None
    return profile if profile and profile.get("sha256") == export.get("sha256") else None


def parts(run_dir: str) -> list[str]:
    """Folders of the goals of a search for several devices, in order of their names.

    Args:
        run_dir: Path of the folder of the search.

    Returns:
        Paths of the folders; none if the search had one goal.
    """
    names = sorted(os.listdir(run_dir)) if os.path.isdir(run_dir) else []
    if os.path.basename(RunFolder(run_dir).arch) in names:
        return []
    others = RunFolder(run_dir).written_folders  # such as that of a teacher
    folders = [RunFolder(RunFolder(run_dir).file(name)) for name in names]
    return [folder.path for folder in folders if folder.path not in others and os.path.isfile(folder.arch)]


def warnings(facts: Facts) -> list[str]:
    """Signs that the search has not worked, each a short text."""
    doubt = text(facts.arch.costs.get("table_doubt")) if facts.arch else None
    return [*([f"{doubt} The milliseconds of this search are those of the table."] if doubt else []),
            *early_warnings.find(facts.epochs, facts.target_ms, facts.finalists, facts.held_out, facts.front)]


def _finalists(data: dict[str, Any]) -> list[dict[str, Any]]:
    finalists = data.get("finalists")
    return [finalist for finalist in finalists if isinstance(finalist, dict)] if isinstance(finalists, list) else []


def _read_compared(path: str) -> Compared:
    data = _read_object(path)
    networks, figures = data.get("networks"), data.get("figures")
    pairs = [(number(network.get("predicted_ms")), number(network.get("measured_ms"))) for network in networks
             if isinstance(network, dict)] if isinstance(networks, list) else []
    positive = [(predicted, measured) for predicted, measured in pairs if predicted and measured
                and predicted > 0 and measured > 0][:MAX_COMPARED]
    if not positive:
        raise InputError(f"{path}: does not hold a comparison as latency.compare writes it. Write it again: "
                         f"python -m latency.compare --table=TABLE.jsonl --json={shell.word(path)}")
    figures = figures if isinstance(figures, dict) else {}
    return Compared(text(data.get("target")), tuple(predicted for predicted, _ in positive),
                    tuple(measured for _, measured in positive), number(figures.get("within_10_percent")),
                    number(figures.get("rmse_of_mean")))


def _read_object(path: str) -> dict[str, Any]:
    data = files.read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {str(data)[:40]!r}. Write it again.")
    return data


def _teacher(folder: RunFolder) -> dict[str, Any]:
    """Contents of train.json of the search's teacher; {} if there is none, or if this folder is the teacher's own."""
    teacher = os.path.dirname(folder.teacher_model)
    if not teacher or os.path.realpath(teacher) == os.path.realpath(folder.path):
        return {}
    return _object_if_there(RunFolder(teacher).training_facts)


def _bundle(folder: RunFolder, exported: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Contents of bundle.json; {} if there is no bundle, or if it holds an earlier state of an export."""
    bundle = RunFolder(folder.bundle())
    for export in exported:
        packed = _object_if_there(bundle.export_facts(export["mode"]))
        if packed and packed.get("sha256") != export.get("sha256"):
            return {}
    return _object_if_there(bundle.file("bundle.json"))


def _object_if_there(path: str) -> dict[str, Any]:
    return _read_object(path) if os.path.exists(path) else {}


def number_of_text(value: str | None) -> float | None:
    """The number in the text of a flag; None if there is none, or if it is not finite."""
    try:
        return None if value is None else number(float(value))
    except (TypeError, ValueError):
        return None


def text(value: Any) -> str | None:
    """Text as one line of at most 200 characters; None for any other value."""
    return printable(value, 200) if isinstance(value, str) and value else None
