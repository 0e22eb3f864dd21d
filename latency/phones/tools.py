"""The two programs named `benchmark_model`, TensorFlow Lite's and LiteRT's: their flags, and what not to believe."""

from collections.abc import Sequence

from latency.phones.benchmark_output import Benchmark, clean, excerpt
from pnas_tf.errors import InputError

# Where the programs are published.
BINARIES = ("https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
            "android_aarch64_benchmark_model (android_arm_benchmark_model for 32-bit phones)")
LITERT_BINARIES = "https://storage.googleapis.com/litert/binaries"
# Advice about a tool that is too old.
NEWER = f"take a newer one, published at {BINARIES}, or LiteRT's, at {LITERT_BINARIES}"
# Name of a flag that only LiteRT's program has; its file contains it.
LITERT_MARK = "compiler_plugin_library_path"

# Flags for each delegate. If a delegate runs only a part of a model, that is an error and not a time.
_ALL_OF_IT = "--require_full_delegation=true"
TFLITE = {
    "none": ("--use_xnnpack=false",),
    "xnnpack": ("--use_xnnpack=true", _ALL_OF_IT),
    "gpu": ("--use_xnnpack=false", "--use_gpu=true", _ALL_OF_IT),
    "nnapi": ("--use_xnnpack=false", "--use_nnapi=true", _ALL_OF_IT),
}
LITERT = {  # it ends with an error if it is to delegate all and has the CPU, too
    "xnnpack": ("--use_cpu=true",),
    "gpu": ("--use_cpu=false", "--use_gpu=true", _ALL_OF_IT),
    "npu": ("--use_cpu=false", "--use_npu=true", _ALL_OF_IT),
}
DELEGATES = tuple(dict.fromkeys((*TFLITE, *LITERT)))
# Multiply-accumulates per second that no phone reaches. A time below is that of handing the work over, not of doing it.
FASTEST = {"gpu": 4e12, "npu": 5e13}


def delegate_flags(delegate: str, *, litert: bool, exact: bool, library_path: str = "") -> Sequence[str]:
    """Flags that run a model on a delegate.

    Args:
        delegate: One of `DELEGATES`.
        litert: Whether the program is LiteRT's.
        exact: Whether a GPU has to compute in float32.
        library_path: Folder on the phone with the libraries of its NPU, or "".

    Raises:
        InputError: If the program does not have the delegate.
    """
    known, other = (LITERT, f"TensorFlow Lite's ({BINARIES})") if litert else (TFLITE, f"LiteRT's ({LITERT_BINARIES})")
    if delegate not in known:
        raise InputError(f"--delegate={delegate} is not a delegate of {'LiteRT' if litert else 'TensorFlow Lite'}'s "
                         f"benchmark_model, which has {', '.join(known)}. Take {other}.")
    precision = {False: f"--gpu_precision_loss_allowed={'false' if exact else 'true'}",
                 True: f"--allow_fp16={'false' if exact else 'true'}"}[litert]
    libraries = [f"--dispatch_library_path={library_path}", f"--{LITERT_MARK}={library_path}"]
    return [*known[delegate], *([precision] if delegate == "gpu" else []),
            *(libraries if delegate == "npu" and library_path else [])]


def doubt(benchmark: Benchmark, delegate: str, macs: float, output: str) -> str:
    """The reason why a run did not measure what it was asked to measure; "" if there is none.

    Args:
        benchmark: What the program reported.
        delegate: Delegate that has to run the whole model.
        macs: Multiply-accumulates of the model.
        output: Everything that the program printed.
    """
    if benchmark.unknown_flags:
        return f"this benchmark_model does not know {clean(benchmark.unknown_flags)}: {NEWER}"
    share = benchmark.delegates.get(delegate, "unknown")
    if delegate == "none" and benchmark.delegates:
        return f"asked for no delegate, got {', '.join(map(clean, benchmark.delegates))}"
    others = [name for name, part in benchmark.delegates.items() if name != delegate and part in ("full", "part")]
    if delegate != "none" and (share != "full" or others):
        return (f"the delegate {delegate} must run the whole model, but its share is {share}"
                + (f", and {', '.join(map(clean, others))} ran a part" if others else "") + f": {excerpt(output)}"
                + (f". An old tool does not tell it: {NEWER}" if share == "unknown" and not others else ""))
    least_ms = 1e3 * macs / FASTEST[delegate] if delegate in FASTEST else 0.0
    if benchmark.mean_ms < least_ms:
        return (f"{benchmark.mean_ms:g} ms for {macs:.3g} multiply-accumulates is quicker than any {delegate.upper()} "
                f"({least_ms:.3g} ms): it is the time of handing the work over. {NEWER[0].upper()}{NEWER[1:]}")
    return ""
