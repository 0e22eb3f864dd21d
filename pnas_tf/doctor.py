"""Shows what this machine has for the commands to use, and what each missing thing would enable.

    python -m pnas_tf.doctor

The command changes nothing and downloads nothing. A missing thing is not an error.
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

from absl import flags

from pnas_tf import __version__, adb_path, extras, siblings
from pnas_tf.cli import start
from pnas_tf.data.readers import FASHION_MNIST_DIR
from pnas_tf.errors import printable
from pnas_tf.machine import cores, memory_bytes
from pnas_tf.packages import versions

# What each required package is used for.
PACKAGES = {"tensorflow": "search, training and export", "keras": "networks", "numpy": "arrays", "scipy": "limits",
            "matplotlib": "charts of reports", "Jinja2": "reports"}
# What each optional package would enable.
OPTIONAL = {"tf-keras": f"--mode=int8_qat ({extras.install('qat')})",
            "tensorflow-model-optimization": f"--mode=int8_qat ({extras.install('qat')})",
            "tensorboard": f"the search's curves while it runs ({extras.install('tensorboard')})",
            "tensorflow-datasets": f"--dataset=tfds:NAME ({extras.install('tfds')})",
            "pillow-heif": "photos in HEIC (pip install pillow-heif)",
            "ethos-u-vela": f"--measurer=vela ({extras.install('vela')})",
            "adbutils": "phones without an adb on the PATH: it contains one (pip install adbutils)"}
INTERPRETERS = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
BENCHMARKS = ("benchmark_model", "android_aarch64_benchmark_model")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A thing that the doctor looked for.

    Attributes:
        group: Heading that it is listed under.
        name: Name of the thing.
        is_usable: Whether the commands can use it.
        text: Its version or path; if it is missing, what it would enable.
    """

    group: str
    name: str
    is_usable: bool
    text: str


def run(adb: str | None = None) -> list[Finding]:
    """Examines everything, in parallel.

    Args:
        adb: Path of adb; None for the adb on the PATH, else that of the package adbutils.

    Returns:
        Findings in the order in which they are shown.
    """
    examinations: dict[str, Callable[[], list[Finding]]] = {
        "Packages": packages, "TFLite": interpreters, "Phones": lambda: phones(adb), "GPU": gpus, "Machine": machine,
        "Data": data_sets}
    with concurrent.futures.ThreadPoolExecutor(len(examinations)) as pool:
        futures = {group: pool.submit(examine) for group, examine in examinations.items()}
    findings = []
    for group, future in futures.items():
        try:
            findings += future.result()
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # one failure must not hide the other groups
            findings.append(Finding(group, group, False, f"cannot be examined: {printable(error, 200)}"))
    return findings


def text(findings: Sequence[Finding]) -> str:
    """The findings as lines of text, with `+` for usable things and `-` for others."""
    lines = [f"pnas_tf {__version__}, Python {platform.python_version()}"]
    for group in dict.fromkeys(finding.group for finding in findings):
        lines += ["", f"{group}:"]
        lines += [f"  {'+' if finding.is_usable else '-'} {finding.name:<30} {finding.text}"
                  for finding in findings if finding.group == group]
    missing = sum(not finding.is_usable for finding in findings)
    return "\n".join([*lines, "", f"{len(findings) - missing} things found, {missing} missing."])


def version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    return versions([package]).get(package)


def packages() -> list[Finding]:
    """Examines the Python packages, required and optional."""
    required = [Finding("Packages", name, bool(version(name)), version(name) or
                        f"missing; needed for {use}: pip install {name}")
                for name, use in PACKAGES.items()]
    required += [Finding("Packages", name, False, printable(
        f"{path} is in the way of our package: rename it, or work in another folder", 300))
        for name in siblings.NAMES if (path := siblings.in_the_way(name))]
    return required + [Finding("Packages", name, bool(version(name)), version(name) or f"would enable {use}")
                       for name, use in OPTIONAL.items()]


def interpreters() -> list[Finding]:
    """Examines the TFLite runtimes by loading each in a process of its own."""
    findings = []
    for package, module in INTERPRETERS.items():
        installed, failure = version(package), ""
        if installed:
            result = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True,
                                    timeout=60, stdin=subprocess.DEVNULL)
            failure = "" if result.returncode == 0 else (result.stderr.strip().splitlines() or ["fails"])[-1]
        advice = "would enable timing with that runtime" + (
            " (Linux and Python 3.11 only)" if package == "tflite-runtime" else ": pip install ai-edge-litert")
        findings.append(Finding("TFLite", package, bool(installed) and not failure,
                                printable(f"{installed} does not load: {failure}", 200) if failure
                                else installed or advice))
    tensorflow = version("tensorflow")
    findings.append(Finding("TFLite", "tf.lite", bool(tensorflow), f"part of tensorflow {tensorflow}" if tensorflow
                            else "comes with tensorflow"))
    return findings


def phones(adb: str | None = None) -> list[Finding]:
    """Examines adb, the devices that it sees, and the program that times models on them.

    Args:
        adb: Path of adb; None for the adb on the PATH, else that of the package adbutils.
    """
    adb = adb_path.find(adb)
    if adb is None:
        findings = [Finding("Phones", "adb", False, "would enable --measurer=android, latency tables of phones: "
                            "pip install adbutils, or apt-get install adb")]
    else:
        findings = _devices(adb)
    paths = [path for name in BENCHMARKS for path in [shutil.which(name), *glob.glob(name)] if path]
    findings.append(Finding("Phones", "benchmark_model", bool(paths), paths[0] if paths else
                            "would enable timing on phones (--benchmark_binary=FILE); docs/latency_tables.md says "
                            "where to get it"))
    return findings


def _devices(adb: str) -> list[Finding]:
    """Asks adb for the devices that are attached."""
    result, described = (subprocess.run([adb, "devices", *option], capture_output=True, text=True, errors="replace",
                                        timeout=20, stdin=subprocess.DEVNULL) for option in ((), ("-l",)))
    findings = [Finding("Phones", "adb", result.returncode == 0, adb if result.returncode == 0
                        else f"{adb} fails: {printable(result.stderr, 150)}")]
    # A tab stands before the state; only serial numbers of Wi-Fi devices have blanks. Other lines are about the server.
    devices = [words for line in result.stdout.splitlines() if all(words := line.partition("\t"))]
    lines = described.stdout.splitlines()
    for serial, _, state in devices[:20]:
        state = printable(state.split()[0] if state.split() else state, 40)
        shown = next((line.removeprefix(serial).split(maxsplit=1) for line in lines if line.startswith(serial)), [])
        findings.append(Finding("Phones", printable(serial, 60), state == "device", {
            "device": printable(shown[1], 100) if len(shown) > 1 else "attached",
            "unauthorized": "allow USB debugging on its screen, then models can be timed on it",
            "offline": "plug it in again, then models can be timed on it"}.get(state, state)))
    if not devices:
        findings.append(Finding("Phones", "a phone", False, "none attached; a phone with USB debugging would enable "
                                "--measurer=android"))
    return findings


def gpus() -> list[Finding]:
    """Examines graphics cards: asks TensorFlow for them, if the machine has an NVIDIA driver."""
    if not shutil.which("nvidia-smi") and not glob.glob("/dev/nvidia[0-9]*"):
        return [Finding("GPU", "GPU", False, "no NVIDIA driver; a GPU would enable --strategy=mirrored, larger "
                        f"searches and --measurer=xla ({extras.install('cuda')})")]
    code = "import tensorflow as tf; print(*[d.name for d in tf.config.list_physical_devices('GPU')], sep=chr(10))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                            stdin=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    names = [name for name in result.stdout.splitlines() if name.strip()]
    return [Finding("GPU", printable(name, 60), True, "seen by TensorFlow") for name in names] or [
        Finding("GPU", "GPU", False, f"there is a driver, but TensorFlow sees no GPU: {extras.install('cuda')}")]


def machine() -> list[Finding]:
    """Examines system, cores, memory and disk."""
    return [Finding("Machine", "system", True, platform.platform()),
            Finding("Machine", "cores", True, f"{cores()} ({platform.machine()})"),
            Finding("Machine", "memory", True, f"{memory_bytes() / 1e9:.1f} GB"),
            Finding("Machine", "disk", True, f"{shutil.disk_usage('.').free / 1e9:.1f} GB free here")]


def data_sets() -> list[Finding]:
    """Examines the data sets that need no path."""
    embedded = importlib.util.find_spec("pnas_tf.datasets")
    file = os.path.join(os.path.dirname(embedded.origin or ""), "fashion_mnist_small.npz") if embedded else ""
    findings = [Finding("Data", "fashion_mnist_small", os.path.exists(file), "embedded" if os.path.exists(file)
                        else "missing from the package: install it again")]
    fashion = os.path.isdir(FASHION_MNIST_DIR)
    findings.append(Finding("Data", "fashion_mnist", fashion, FASHION_MNIST_DIR if fashion else
                         "all 70,000 images: apt-get install dataset-fashion-mnist, or --data_dir"))
    cifar = next((name for name in ("cifar-10-batches-bin", "data_batch_1.bin", "cifar10.npz", "cifar10_jpeg.npz")
                  if os.path.exists(name)), None)
    findings.append(Finding("Data", "cifar10", cifar is not None, cifar or "not in this folder: give --data_dir"))
    prepared = sorted(os.path.basename(path) for path in glob.glob(os.path.expanduser("~/tensorflow_datasets/*"))
                      if os.path.isdir(path) and not path.endswith("downloads"))
    findings.append(Finding("Data", "tfds", bool(prepared), printable(", ".join(prepared), 200) or
                         "none prepared in ~/tensorflow_datasets"))
    return findings + [Finding("Data", "your own", True, "--dataset=folder:PATH, a folder of images for each class")]


def _define_flags() -> None:
    flags.DEFINE_string("adb", None, "Path of adb; default: the adb on the PATH, else that of the package adbutils.")


def _main() -> None:
    print(text(run(flags.FLAGS.adb)))


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
