"""Times models that TensorFlow compiles with XLA, in batches: on a GPU if there is one, else on the CPU.

XLA has no depthwise kernel for CPUs, so MBConv ops are many times slower there than under TFLite. A table of this
target shows that, as it should.
"""

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from export import timing
from pnas_tf.cli.settings import check, setting
from pnas_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class XlaSettings:
    """Every setting of the measurer of XLA. The text beside each field explains it."""

    threads: int = setting(1, "CPU threads.", low=1, high=256)
    dtype: str = setting("float32", "Number format, always float32.", choices=("float32",))
    batch_size: int = setting(1, "Images in a run.", low=1, high=65536)
    rounds: int = setting(6, "Visits of each model, spread over time.", low=1, high=1000)
    runs: int = setting(10, "Timed runs of a model in a visit.", low=1, high=10_000)

    def __post_init__(self):
        check(self)


class Xla:
    """TensorFlow with XLA, on a GPU if there is one, else on the CPU.

    `tf.function(jit_compile=True)` in batches. The time includes waiting for the device, but not compiling.
    """

    Settings: ClassVar[type[Any]] = XlaSettings

    def __init__(self, settings: XlaSettings):
        """Sets TensorFlow's number of threads.

        Args:
            settings: Settings of the measurements.

        Raises:
            InputError: If TensorFlow has computed something in this process with another number of threads.
        """
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
        except RuntimeError:
            raise InputError(f"TensorFlow runs with {tf.config.threading.get_intra_op_parallelism_threads()} threads "
                             f"already (0: all), expected {settings.threads}. Start a new process for this measurement."
                             ) from None
        self._settings = settings

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        import tensorflow as tf

        settings = self._settings
        gpus = tf.config.list_physical_devices("GPU")
        facts = timing.machine_facts()
        if gpus:
            facts["device"] = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
        return {"target": f"xla_{'gpu' if gpus else 'cpu'}_b{settings.batch_size}_float32", "measurer": "xla", **facts,
                "runtime": f"tensorflow {tf.__version__}", "delegate": "jit", "threads": settings.threads,
                "dtype": "float32", "batch_size": settings.batch_size, "rounds": settings.rounds,
                "runs": settings.runs, "statistic": timing.STATISTIC, "context": "each run follows one of the same op",
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, float]]]:
        """See `measure.Measurer`; `between` is ignored: compiling a network takes longer than measuring a table."""
        subjects: dict[Any, Callable[[], None]] = {}

        def visit(name):
            if name not in subjects:
                subjects[name] = self._subject(builds[name]())
            times = timing.timed_ms(subjects[name], self._settings.runs)
            visited()
            return times

        for name, samples in timing.spread_out(list(builds), self._settings.rounds, visit):
            del subjects[name]
            yield name, timing.summarise(samples)

    def _subject(self, model):
        """A function that runs a model once on random images and waits until the device is done."""
        import tensorflow as tf

        rng = np.random.default_rng(0)
        images = [tf.constant(rng.standard_normal((self._settings.batch_size, *tensor.shape[1:]), np.float32))
                  for tensor in model.inputs]
        images = images if len(images) > 1 else images[0]
        compiled = tf.function(lambda images: model(images, training=False), jit_compile=True, autograph=False)

        def run():
            compiled(images)
            tf.test.experimental.sync_devices()

        return run
