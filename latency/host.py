"""Times models as `.tflite` on this machine: what is timed is converted as what is shipped."""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from export import convert, interpreter, timed_runs, timing
from pnas_tf.errors import InputError


class Host:
    """TFLite on the CPU of this machine, with XNNPACK or the built-in kernels."""

    def __init__(self, *, runtime: str = "auto", threads: int = 1, delegate: str = "xnnpack", dtype: str = "float32",
                 batch_size: int = 1, rounds: int = 6, runs: int = 10, together: int = timing.GROUP):
        """Sets how to time.

        Args:
            runtime: `litert`, `tflite_runtime` (in a process of its own), `tf.lite`, or `auto` for the first of them
                that is installed; a version may follow, as in a table's header.
            threads: CPU threads.
            delegate: `xnnpack` or `none`.
            dtype: `float32`, `float16` (weights) or `int8`.
            batch_size: 1.
            rounds: visits of each model, spread over time.
            runs: timed runs in a visit.
            together: models that are begun together, then visited in turns, and done together. All that are to be
                compared, if the machine changes its pace: then a change hits all alike. Few, if little shall be lost
                when it is stopped.

        Raises:
            InputError: if TFLite is not to be had so.
        """
        if batch_size != 1:
            raise InputError(f"TFLite is timed with one image at a time: --batch_size=1, got {batch_size!r}.")
        if delegate not in interpreter.DELEGATES or dtype not in convert.MODES:
            raise InputError(f"Expected a delegate of {', '.join(interpreter.DELEGATES)} and a dtype of "
                             f"{', '.join(convert.MODES)}, got {str(delegate)[:40]!r} and {str(dtype)[:40]!r}.")
        self._runtime = interpreter.installed_runtime((runtime.split() or [""])[0])
        self._settings: dict[str, Any] = {"threads": threads, "delegate": delegate, "runs": runs}
        self._dtype, self._rounds, self._together = dtype, rounds, together

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        target = interpreter.target_name(threads=self._settings["threads"], delegate=self._settings["delegate"],
                                         dtype=self._dtype, runtime=self._runtime)
        return {"target": target, "measurer": "host", **timing.machine_facts(),
                "runtime": interpreter.runtime_name(self._runtime), **self._settings, "rounds": self._rounds,
                "together": self._together, "dtype": self._dtype, "batch_size": 1, "statistic": timing.STATISTIC,
                "context": "each run follows one of another network of the space",
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                ) -> Iterator[tuple[Any, dict[str, float]]]:
        """See `measure.Measurer`."""
        with self.visiting(builds, between) as (visit, forget):
            for name, samples in timing.spread_out(list(builds), self._rounds, visit, self._together):
                yield name, timing.summarise(samples)
                forget(name)

    @contextlib.contextmanager
    def visiting(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                 ) -> Iterator[tuple[Callable[[Any], list[float]], Callable[[Any], None]]]:
        """For those who order the visits themselves.

        Args:
            builds: as of `measure`, as well as `between`.

        Yields:
            Two calls: the visit of a model by name, which returns the milliseconds of its runs (a model is converted at
            its first visit), and that a model will not be visited again.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pnas_tf-"))
            settings = {**self._settings, "runtime": self._runtime,
                        "between": self._converted(between, folder, "between") if between else None}
            visit = (stack.enter_context(timed_runs.apart(**settings)) if self._runtime == "tflite_runtime"
                     else timed_runs.here(**settings))
            paths: dict[Any, str] = {}

            def visit_by_name(name):
                if name not in paths:
                    paths[name] = self._converted(builds[name], folder, str(len(paths)))
                return visit(paths[name])

            yield visit_by_name, lambda name: os.unlink(paths[name])

    def _converted(self, build, folder, stem):
        """Path of the `.tflite`."""
        path = os.path.join(folder, f"{stem}.tflite")
        with open(path, "wb") as file:
            file.write(convert.to_time(build(), self._dtype))
        return path
