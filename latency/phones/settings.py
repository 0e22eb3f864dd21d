"""Settings of measurements on Android phones: each with its default, bounds and meaning, and the flags for the tool.

`PhoneSettings` is read by the measurer of phones, by the flags of commands, and by the headers of tables.
"""

import dataclasses
import re
from collections.abc import Sequence

from export import convert
from latency.phones import tools
from latency.phones.facts import CPU_MASK, plain_mask
from pnas_tf.cli.settings import check, setting
from pnas_tf.errors import InputError, shown

# Settings of repetitions, pauses and limits; a table's header records them in this order.
PACE = ("rounds", "runs", "min_seconds", "warmup_runs", "warmup_seconds", "run_delay_seconds", "pause_seconds",
        "cooldown_seconds", "wait_seconds", "timeout_seconds", "max_celsius", "max_drift")


@dataclasses.dataclass(frozen=True)
class PhoneSettings:
    """Every setting of the measurer of Android phones. The text beside each field explains it."""

    benchmark_binary: str | None = setting(None, "Path of TensorFlow Lite's or LiteRT's benchmark_model for Android.")
    serial: Sequence[str] = setting((), "Serial numbers of the phones, with commas between; default: the environment "
                                    "variable ANDROID_SERIAL, else all attached phones.")
    adb: str | None = setting(None, "Path of adb; default: the adb on the PATH, else that of the package adbutils.")
    binary_sha256: str = setting("", "SHA-256 of a benchmark_model that is on the phones already; replaces "
                                 "--benchmark_binary.")
    threads: int = setting(1, "CPU threads.", low=1, high=256)
    delegate: str = setting("xnnpack", "Delegate that runs the model: xnnpack, gpu, npu (LiteRT's tool only), nnapi "
                            "(deprecated since Android 15), or none for TFLite's built-in kernels, whose profile names "
                            "the layers.", choices=tools.DELEGATES)
    library_path: str = setting("", "Folder on the phone, below /data/local/tmp or /vendor, with the libraries that "
                                "LiteRT's tool loads for its GPU or NPU.")
    dtype: str = setting("float32", "Number format; float16 allows a GPU to compute in float16.",
                         choices=tuple(convert.MODES))
    cpu_mask: str = setting("auto", CPU_MASK)
    rounds: int = setting(1, "Passes over a batch of models; the best time of a model counts.", low=1, high=1000)
    runs: int = setting(50, "Smallest number of timed runs of a model in a round.", low=1, high=10_000)
    min_seconds: float = setting(1.0, "Smallest total time of the timed runs of a model.", low=0, high=3600)
    warmup_runs: int = setting(1, "Smallest number of untimed runs before the timed runs.", low=1, high=10_000)
    warmup_seconds: float = setting(0.5, "Smallest total time of the untimed runs.", low=0, high=3600)
    run_delay_seconds: float = setting(0.0, "Pause between two runs of a model.", low=0, high=3600)
    pause_seconds: float = setting(0.0, "Pause between two models.", low=0, high=3600)
    cooldown_seconds: float = setting(10.0, "Pause before a failed step is repeated.", low=0, high=3600)
    wait_seconds: float = setting(600.0, "Longest wait for a phone that was lost or is too hot.", low=0, high=1e6)
    timeout_seconds: float = setting(150.0, "Longest time that one model may take.", low=1, high=1e5)
    max_celsius: float = setting(40.0, "Temperature of the battery above which nothing is measured.", low=0, high=100)
    max_drift: float = setting(0.05, "Relative change of the anchor network's time above which a phone's last batch "
                               "is measured again; smaller changes are corrected.", low=0, high=1000)

    def __post_init__(self):
        check(self)
        object.__setattr__(self, "cpu_mask", plain_mask(self.cpu_mask))
        if self.library_path and not re.fullmatch(r"(/data/local/tmp|/vendor)(/(?!\.\.?/|\.\.?$)[\w.+-]{1,100}){0,9}",
                                                  self.library_path):
            raise InputError("library_path must be a folder on the phone such as /data/local/tmp/npu or /vendor/lib64, "
                             f"got {shown(self.library_path)}.")

    def benchmark_flags(self, *, litert: bool) -> list[str]:
        """The flags of benchmark_model that time a model as these settings say.

        Args:
            litert: Whether the tool is LiteRT's.

        Raises:
            InputError: If the tool does not have the delegate.
        """
        # The tool stops by itself, with fewer runs, before the timeout.
        longest = max(1.0, self.timeout_seconds / 3)
        options = [f"--num_threads={self.threads}", f"--num_runs={self.runs}", f"--min_secs={self.min_seconds:g}",
                   f"--max_secs={longest:g}", f"--warmup_runs={self.warmup_runs}",
                   f"--warmup_min_secs={self.warmup_seconds:g}",
                   *tools.delegate_flags(self.delegate, litert=litert, exact=self.dtype != "float16",
                                         library_path=self.library_path)]
        if self.run_delay_seconds:
            options.append(f"--run_delay={self.run_delay_seconds:g}")
        return options
