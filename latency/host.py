"""Times models as `.tflite` on this machine: what is timed is converted as what is shipped."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from export import convert, interpreter, machine, timing
from pnas_tf.errors import InputError

# Models timed together, in interleaved rounds. Bounds memory, and the work lost when stopped.
GROUP = 8


class Host:
    """TFLite on the CPU of this machine, with XNNPACK or the built-in kernels."""

    def __init__(self, *, threads: int = 1, delegate: str = "xnnpack", dtype: str = "float32", batch_size: int = 1,
                 rounds: int = 6, runs: int = 10):
        """Sets how to time.

        Args:
            threads: CPU threads.
            delegate: `xnnpack` or `none`.
            dtype: `float32`, `float16` (weights) or `int8`.
            batch_size: 1.
            rounds: passes over a group of models.
            runs: timed runs of each model in a round.

        Raises:
            InputError: if TFLite is not to be had so.
        """
        if batch_size != 1:
            raise InputError(f"TFLite is timed with one image at a time: --batch_size=1, got {batch_size!r}.")
        if delegate not in interpreter.DELEGATES or dtype not in convert.MODES:
            raise InputError(f"Expected a delegate of {', '.join(interpreter.DELEGATES)} and a dtype of "
                             f"{', '.join(convert.MODES)}, got {str(delegate)[:40]!r} and {str(dtype)[:40]!r}.")
        self._threads, self._delegate, self._dtype, self._rounds, self._runs = threads, delegate, dtype, rounds, runs

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        return {"target": interpreter.target_name(threads=self._threads, delegate=self._delegate, dtype=self._dtype),
                "measurer": "host", **machine.facts(), "runtime": interpreter.runtime_name(),
                "delegate": self._delegate, "threads": self._threads, "dtype": self._dtype, "batch_size": 1,
                "rounds": self._rounds, "runs": self._runs, "statistic": timing.STATISTIC,
                "context": "each run follows one of another network of the space",
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                ) -> Iterator[tuple[Any, dict[str, float]]]:
        """See `measure.Measurer`."""
        run_another = self._subject(between)[0] if between else None
        names = list(builds)
        for group in (names[start:start + GROUP] for start in range(0, len(names), GROUP)):
            subjects = [self._subject(builds[name]) for name in group]

            def before(position, subjects=subjects):
                if run_another:
                    run_another()
                    subjects[position][1]()  # writes the input: fresh in the caches, as from the op before

            invokes = [invoke for invoke, _ in subjects]
            samples = timing.interleaved_ms(invokes, rounds=self._rounds, runs=self._runs, before=before)
            yield from zip(group, map(timing.summarise, samples), strict=True)

    def _subject(self, build):
        model = build()
        images = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:]), np.float32)
        content = convert.convert(model, self._dtype, calibration=[images])
        return interpreter.subject(
            interpreter.make_interpreter(content, threads=self._threads, delegate=self._delegate))
