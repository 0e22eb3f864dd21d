"""Times models as `.tflite` on this machine. They are converted exactly like models that are shipped."""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from export import apart, convert, interpreter, timed_runs, timing
from latency.conversions import Conversions
from pnas_tf import workspaces
from pnas_tf.cli.settings import check, setting
from pnas_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class HostSettings:
    """Every setting of the measurer of this machine. The text beside each field explains it."""

    runtime: str = setting("auto", "TFLite runtime that runs the model; auto is the first of them that is installed.",
                           choices=("auto", *interpreter.RUNTIMES))
    threads: int = setting(1, "CPU threads.", low=1, high=256)
    delegate: str = setting("xnnpack", "Delegate that runs the model: xnnpack, or none for TFLite's built-in kernels.",
                            choices=interpreter.DELEGATES)
    dtype: str = setting("float32", "Number format.", choices=tuple(convert.MODES))
    batch_size: int = setting(1, "Images in a run; more than 1 is refused.", low=1, high=65536)
    rounds: int = setting(6, "Visits of each model, spread over time.", low=1, high=1000)
    runs: int = setting(10, "Timed runs of a model in a visit.", low=1, high=10_000)
    together: int = setting(timing.GROUP, "Models that are started together, visited in turns, and finished together. "
                            "A change of the machine's speed then affects all of them alike. In small groups, less "
                            "work is lost when the program is stopped.", low=1, high=65536)

    def __post_init__(self):
        if self.batch_size != 1:
            raise InputError(f"TFLite is timed with one image at a time: --batch_size=1, got {self.batch_size!r}.")
        check(self)


class Host:
    """TFLite on the CPU of this machine, with XNNPACK or the built-in kernels."""

    Settings: ClassVar[type[Any]] = HostSettings

    def __init__(self, settings: HostSettings):
        """Chooses the runtime.

        Args:
            settings: Settings of the measurements.

        Raises:
            InputError: If the runtime is not installed.
        """
        self._settings = dataclasses.replace(settings, runtime=interpreter.installed_runtime(settings.runtime))
        self._convert = Conversions(settings.dtype)

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        settings = self._settings
        target = interpreter.target_name(threads=settings.threads, delegate=settings.delegate, dtype=settings.dtype,
                                         runtime=settings.runtime)
        return {"target": target, "measurer": "host", **timing.machine_facts(),
                "runtime": interpreter.runtime_name(settings.runtime), **facts_of(settings)}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, float]]]:
        """See `measure.Measurer`."""
        with self.visiting(builds, between) as (visit, forget):
            def noted_visit(name):
                times = visit(name)
                visited()
                return times

            for name, samples in timing.spread_out(list(builds), self._settings.rounds, noted_visit,
                                                   self._settings.together):
                yield name, timing.summarise(samples)
                forget(name)

    @contextlib.contextmanager
    def visiting(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                 ) -> Iterator[tuple[Callable[[Any], list[float]], Callable[[Any], None]]]:
        """Lets the caller decide the order in which models are visited.

        Args:
            builds: Functions that make the Keras models, by name.
            between: Function that makes a model to run before each timed run; see `measure.Measurer.measure`.

        Yields:
            (visit, forget). `visit(name)` times a model and returns the milliseconds of its runs; a model is converted
            at its first visit. `forget(name)` deletes the converted model.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(workspaces.temporary_folder())
            between_path = self._converted(between, folder, "between") if between else None
            visit_path = stack.enter_context(visits(self._settings, between_path))
            paths: dict[Any, str] = {}

            def visit(name):
                if name not in paths:
                    paths[name] = self._converted(builds[name], folder, str(len(paths)))
                return visit_path(paths[name])

            yield visit, lambda name: os.unlink(paths[name])

    def _converted(self, build, folder, stem):
        """Converts a model and returns the path of the `.tflite`."""
        return workspaces.write_temporary(folder, f"{stem}.tflite", self._convert(build))


def facts_of(settings: HostSettings) -> dict[str, Any]:
    """Facts for a table's header that do not depend on the machine."""
    return {"threads": settings.threads, "delegate": settings.delegate, "runs": settings.runs,
            "rounds": settings.rounds, "together": settings.together, "dtype": settings.dtype, "batch_size": 1,
            "statistic": timing.STATISTIC, "context": "each run follows one of another network of the space",
            "date": datetime.date.today().isoformat()}


@contextlib.contextmanager
def visits(settings: HostSettings, between: str | None = None) -> Iterator[timed_runs.Visit]:
    """A function that times the `.tflite` at a path; it works only inside the context.

    Models are timed in this process. Only tflite_runtime, which fails in a process that has loaded TensorFlow, gets a
    process of its own.

    Args:
        settings: Settings of the measurements.
        between: Path of a `.tflite` to run before each timed run.
    """
    runtime = interpreter.installed_runtime(settings.runtime)
    arguments: dict[str, Any] = {"runtime": runtime, "threads": settings.threads, "delegate": settings.delegate,
                                 "runs": settings.runs, "between": between}
    if runtime == "tflite_runtime":
        with apart.visits(**arguments) as visit:
            yield visit
    else:
        yield timed_runs.here(**arguments)
