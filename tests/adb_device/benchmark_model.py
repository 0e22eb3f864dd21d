"""Stands in for TensorFlow Lite's benchmark_model: it has the same flags and output, and times the real interpreter.

Its numbers are those of this host, never of a phone. It has no GPU, no NNAPI and no profile of operators.
"""

import os
import sys
import time

import numpy as np

DEFAULTS = {"graph": "", "num_threads": -1, "num_runs": 50, "warmup_runs": 1, "min_secs": 1.0, "max_secs": 150.0,
            "warmup_min_secs": 0.5, "run_delay": -1.0, "use_xnnpack": True, "require_full_delegation": False}


def log(text):
    print(f"INFO: {text}", flush=True)


def fail(text):
    print(f"ERROR: {text}\nERROR: Benchmarking failed.", file=sys.stderr)
    sys.exit(1)


def read_flags(arguments):
    values, unknown = dict(DEFAULTS), []
    for argument in arguments:
        name, _, text = argument.removeprefix("--").partition("=")
        default = DEFAULTS.get(name)
        if default is None:
            unknown.append(argument)
        else:
            values[name] = text in ("true", "1") if isinstance(default, bool) else type(default)(text)
    if unknown:
        print("WARN: Unconsumed cmdline flags: " + " ".join(unknown))
    return values


def make_interpreter(flags):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if flags["use_xnnpack"] else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(flags["graph"], num_threads=max(1, flags["num_threads"]),
                                  experimental_op_resolver_type=kind)
        log(f"Loaded model {flags['graph']}")
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        fail(f"Failed to load the model {flags['graph']}: {error}")
    rng = np.random.default_rng(0)
    for entry in interpreter.get_input_details():
        values = rng.random(entry["shape"], np.float32) * (1 if entry["dtype"] == np.float32 else 127)
        interpreter.set_tensor(entry["index"], values.astype(entry["dtype"]))
    return interpreter


def times_us(interpreter, runs, seconds, flags):
    log(f"Running benchmark for at least {runs} iterations and at least {seconds:g} seconds but terminate if "
        f"exceeding {flags['max_secs']:g} seconds.")
    times, begin = [], time.perf_counter()
    while True:
        start = time.perf_counter()
        interpreter.invoke()
        times.append(int((time.perf_counter() - start) * 1e6))
        if flags["run_delay"] > 0:
            time.sleep(flags["run_delay"])
        passed = time.perf_counter() - begin
        if passed > flags["max_secs"] or (len(times) >= runs and passed >= seconds):
            break
    if len(times) == 1:
        log(f"count=1 curr={times[0]}\n")
    else:
        low, median, high = (int(x) for x in np.percentile(times, (5, 50, 95), method="nearest"))
        log(f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} "
            f"avg={np.mean(times):.6g} std={int(np.std(times))} p5={low} median={median} p95={high}\n")
    return times


def main():
    log("STARTING!")
    flags = read_flags(sys.argv[1:])
    if not os.path.isfile(flags["graph"]):
        fail("Please specify the name of your TF Lite input file with --graph")
    begin = time.perf_counter()
    interpreter = make_interpreter(flags)
    init_us = int((time.perf_counter() - begin) * 1e6)
    if flags["use_xnnpack"]:
        log("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    warm = times_us(interpreter, flags["warmup_runs"], flags["warmup_min_secs"], flags)
    times = times_us(interpreter, flags["num_runs"], flags["min_secs"], flags)
    log(f"Inference timings in us: Init: {init_us}, First inference: {warm[0]}, Warmup (avg): {np.mean(warm):.6g}, "
        f"Inference (avg): {np.mean(times):.6g}")


if __name__ == "__main__":
    main()
