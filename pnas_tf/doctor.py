"""Says what of this machine the commands can use, and what each missing thing would make possible.

    python -m pnas_tf.doctor

Nothing is changed, nothing is downloaded, and missing things are no error.
"""

import concurrent.futures
import dataclasses
import glob
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from absl import flags

from pnas_tf import __version__
from pnas_tf.cli import start
from pnas_tf.data.sources import FASHION_MNIST_DIR
from pnas_tf.errors import printable

# Package, and what it is for.
PACKAGES = {"tensorflow": "search, training and export", "keras": "networks", "numpy": "arrays", "scipy": "limits",
            "matplotlib": "charts of reports", "Jinja2": "reports"}
OPTIONAL = {"tf_keras": "--mode=int8_qat (pip install tf_keras tensorflow-model-optimization)",
            "tensorflow-model-optimization": "--mode=int8_qat (pip install tf_keras tensorflow-model-optimization)",
            "tensorboard": "the search's curves while it runs (pip install tensorboard)",
            "tensorflow-datasets": "--dataset=tfds:NAME (pip install tensorflow-datasets)",
            "adbutils": "an adb of its own (pip install adbutils)"}
INTERPRETERS = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
BENCHMARKS = ("benchmark_model", "android_aarch64_benchmark_model")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        group: where it belongs.
        name: what it is.
        there: whether it can be used.
        text: its version or place, or what it would make possible.
    """

    group: str
    name: str
    there: bool
    text: str


def run(adb: str | None = None) -> list[Finding]:
    """Looks at everything, side by side.

    Args:
        adb: path of adb; default: that of the PATH.
    """
    looks: list[Callable[[], list[Finding]]] = [packages, interpreters, lambda: phones(adb), gpus, machine, data_sets]
    with concurrent.futures.ThreadPoolExecutor(len(looks)) as pool:
        futures = [pool.submit(look) for look in looks]
    found = []
    for look, future in zip(("Packages", "TFLite", "Phones", "GPU", "Machine", "Data"), futures, strict=True):
        try:
            found += future.result()
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # a doctor never faints
            found.append(Finding(look, look, False, f"cannot be looked at: {printable(error, 200)}"))
    return found


def text(found: Sequence[Finding]) -> str:
    """The findings as lines, `+` for what is there and `-` for what is not."""
    lines = [f"pnas_tf {__version__}, Python {platform.python_version()}"]
    for group in dict.fromkeys(one.group for one in found):
        lines += ["", f"{group}:"]
        lines += [f"  {'+' if one.there else '-'} {one.name:<30} {one.text}" for one in found if one.group == group]
    missing = sum(not one.there for one in found)
    return "\n".join([*lines, "", f"{len(found) - missing} things found, {missing} not."])


def version(package: str) -> str | None:
    """Of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def packages() -> list[Finding]:
    """Python packages."""
    needed = [Finding("Packages", name, bool(version(name)), version(name) or
                      f"missing; {what} need it: pip install -r requirements.txt") for name, what in PACKAGES.items()]
    return needed + [Finding("Packages", name, bool(version(name)), version(name) or f"would enable {what}")
                     for name, what in OPTIONAL.items()]


def interpreters() -> list[Finding]:
    """TFLite runtimes that load, in a process of their own each."""
    found = []
    for package, module in INTERPRETERS.items():
        there, why = version(package), ""
        if there:
            done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True,
                                  timeout=60, stdin=subprocess.DEVNULL)
            why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["fails"])[-1]
        enables = "would enable timing by that runtime" + (
            " (no wheel for Python 3.12 and newer)" if package == "tflite-runtime" else ": pip install ai-edge-litert")
        found.append(Finding("TFLite", package, bool(there) and not why,
                             printable(f"{there} does not load: {why}", 200) if why else there or enables))
    tensorflow = version("tensorflow")
    found.append(Finding("TFLite", "tf.lite", bool(tensorflow), f"of tensorflow {tensorflow}" if tensorflow
                         else "comes with tensorflow"))
    return found


def phones(adb: str | None = None) -> list[Finding]:
    """adb, the devices it sees, and the program that times models there."""
    adb = shutil.which(adb or "adb")
    found = []
    if adb is None:
        found.append(Finding("Phones", "adb", False, "would enable --measurer=android, tables of phones: "
                             "apt-get install adb"))
    else:
        done = subprocess.run([adb, "devices", "-l"], capture_output=True, text=True, errors="replace", timeout=20,
                              stdin=subprocess.DEVNULL)
        found.append(Finding("Phones", "adb", done.returncode == 0, adb if done.returncode == 0
                             else f"{adb} fails: {printable(done.stderr, 150)}"))
        # Besides devices it prints a heading, and lines with asterisks about its server.
        devices = [words for line in done.stdout.splitlines() if len(words := line.split(maxsplit=2)) > 1
                   and not line.startswith(("List of devices", "*"))]
        for words in devices[:20]:
            serial, state = printable(words[0], 40), printable(words[1], 40)
            found.append(Finding("Phones", serial, state == "device", {
                "device": printable(words[2], 100) if len(words) > 2 else "attached",
                "unauthorized": "allow USB debugging on its screen, and it can be timed",
                "offline": "plug it in again, and it can be timed"}.get(state, state)))
        if not devices:
            found.append(Finding("Phones", "a phone", False, "none attached; one with USB debugging would enable "
                                 "--measurer=android"))
    paths = [path for name in BENCHMARKS for path in [shutil.which(name), *glob.glob(name)] if path]
    found.append(Finding("Phones", "benchmark_model", bool(paths), paths[0] if paths else
                         "would be run on phones, by --benchmark_binary=FILE; docs/latency_tables.md: where to get it"))
    return found


def gpus() -> list[Finding]:
    """Graphics cards, as TensorFlow sees them if the machine has a driver for one."""
    if not shutil.which("nvidia-smi") and not glob.glob("/dev/nvidia[0-9]*"):
        return [Finding("GPU", "GPU", False, "no NVIDIA driver; one would enable --strategy=mirrored, larger searches "
                        "and tables of xla on it (pip install tensorflow[and-cuda])")]
    code = "import tensorflow as tf; print(*[d.name for d in tf.config.list_physical_devices('GPU')], sep=chr(10))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    names = [name for name in done.stdout.splitlines() if name.strip()]
    return [Finding("GPU", printable(name, 60), True, "seen by TensorFlow") for name in names] or [
        Finding("GPU", "GPU", False, "there is a driver, but TensorFlow sees none: pip install tensorflow[and-cuda]")]


def machine() -> list[Finding]:
    """Cores, memory and disk."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [Finding("Machine", "system", True, platform.platform()),
            Finding("Machine", "cores", True, f"{os.cpu_count()} ({platform.machine()})"),
            Finding("Machine", "memory", True, f"{memory_bytes / 1e9:.1f} GB"),
            Finding("Machine", "disk", True, f"{shutil.disk_usage('.').free / 1e9:.1f} GB free here")]


def data_sets() -> list[Finding]:
    """Data sets that need no path."""
    embedded = importlib.util.find_spec("pnas_tf.datasets")
    file = os.path.join(os.path.dirname(embedded.origin or ""), "fashion_mnist_small.npz") if embedded else ""
    found = [Finding("Data", "fashion_mnist_small", os.path.exists(file), "embedded" if os.path.exists(file)
                     else "missing from the package: install it again")]
    fashion = os.path.isdir(FASHION_MNIST_DIR)
    found.append(Finding("Data", "fashion_mnist", fashion, FASHION_MNIST_DIR if fashion else
                         "all 70,000 images: apt-get install dataset-fashion-mnist, or --data_dir"))
    cifar = next((name for name in ("cifar-10-batches-bin", "data_batch_1.bin", "cifar10.npz", "cifar10_jpeg.npz")
                  if os.path.exists(name)), None)
    found.append(Finding("Data", "cifar10", cifar is not None, cifar or "not in this folder: give --data_dir"))
    prepared = sorted(os.path.basename(path) for path in glob.glob(os.path.expanduser("~/tensorflow_datasets/*"))
                      if os.path.isdir(path) and not path.endswith("downloads"))
    found.append(Finding("Data", "tfds", bool(prepared), printable(", ".join(prepared), 200) or
                         "none prepared in ~/tensorflow_datasets"))
    return found + [Finding("Data", "your own", True, "--dataset=folder:PATH, a folder of images for each class")]


def _define_flags() -> None:
    flags.DEFINE_string("adb", None, "Path of adb; default: that of the PATH.")


def _main() -> None:
    print(text(run(flags.FLAGS.adb)))


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
