"""Times models compiled by XLA in TensorFlow: a GPU if there is one, else the CPU, in batches.

XLA has no depthwise kernel for CPUs: MBConv ops are many times slower there than under TFLite. That is how the
target is, so the table says it.
"""

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from export import timing
from pnas_tf.errors import InputError


class Xla:
    """`tf.function(jit_compile=True)`; compiling is not timed, waiting for the device is."""

    def __init__(self, *, threads: int = 1, dtype: str = "float32", batch_size: int = 1, rounds: int = 6,
                 runs: int = 10):
        """Sets how to time.

        Args:
            threads: CPU threads; must be set before TensorFlow computes anything in the process.
            dtype: `float32`.
            batch_size: images in a run.
            rounds: visits of each model, spread over time.
            runs: timed runs in a visit.

        Raises:
            InputError: if it cannot be done so.
        """
        import tensorflow as tf

        if dtype != "float32":
            raise InputError(f"XLA is timed in float32, got dtype {str(dtype)[:40]!r}.")
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError:
            raise InputError(f"TensorFlow runs with {tf.config.threading.get_intra_op_parallelism_threads()} threads "
                             f"already (0: all), expected {threads}: time in a process of its own.") from None
        self._threads, self._batch_size, self._rounds, self._runs = threads, batch_size, rounds, runs

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        facts = timing.machine_facts()
        if gpus:
            facts["device"] = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
        return {"target": f"xla_{'gpu' if gpus else 'cpu'}_b{self._batch_size}_float32", "measurer": "xla", **facts,
                "runtime": f"tensorflow {tf.__version__}", "delegate": "jit", "threads": self._threads,
                "dtype": "float32", "batch_size": self._batch_size, "rounds": self._rounds, "runs": self._runs,
                "statistic": timing.STATISTIC, "context": "each run follows one of the same op",
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                ) -> Iterator[tuple[Any, dict[str, float]]]:
        """See `measure.Measurer`; `between` is left out: to compile a whole network takes longer than a table."""
        subjects: dict[Any, Callable[[], None]] = {}

        def visit(name):
            if name not in subjects:
                subjects[name] = self._subject(builds[name]())
            return timing.timed_ms(subjects[name], self._runs)

        for name, samples in timing.spread_out(list(builds), self._rounds, visit):
            del subjects[name]
            yield name, timing.summarise(samples)

    def _subject(self, model):
        import tensorflow as tf

        rng = np.random.default_rng(0)
        images = [tf.constant(rng.standard_normal((self._batch_size, *one.shape[1:]), np.float32))
                  for one in model.inputs]
        images = images if len(images) > 1 else images[0]
        compiled = tf.function(lambda images: model(images, training=False), jit_compile=True, autograph=False)

        def run():
            compiled(images)
            tf.test.experimental.sync_devices()

        return run
