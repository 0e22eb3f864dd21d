"""Fixtures of several test files: an adb client and devices for it, spaces, supernets, a small trained network."""

import dataclasses
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf.cli import start

start.set_environment()  # tests compute as commands do

ADB_DEVICE = Path(__file__).parent / "adb_device"
PROPERTIES = {"ro.product.manufacturer": "Google", "ro.product.model": "Pixel 2", "ro.board.platform": "msm8998",
              "ro.build.version.release": "11", "ro.build.version.sdk": "30", "ro.build.id": "RP1A.201005.004",
              "ro.product.cpu.abi": "arm64-v8a"}
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 83
  scale: 100
  voltage: 3972
  temperature: 312
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=33.931, mType=-1, mName=neutral_therm, mStatus=1}
"""


def adb_clients():
    """Paths of the installed adb clients by name: Debian's, and the newer one in the wheel of adbutils."""
    paths = {"debian": shutil.which("adb")}
    try:
        import adbutils

        paths["wheel"] = shutil.which(str(Path(adbutils.__file__).parent / "binaries" / "adb"))
    except ImportError:
        pass
    return {name: path for name, path in paths.items() if path}


@dataclasses.dataclass
class Client:
    """An adb client with a server of its own.

    Attributes:
        path: Path of the adb program.
        environment: Environment variables that name the server's port and the folder of keys.
    """

    path: str
    environment: dict[str, str]

    def __call__(self, *arguments):
        """The finished process of `adb ARGUMENTS`."""
        return subprocess.run([self.path, *arguments], env=self.environment, capture_output=True, text=True,
                              check=False, stdin=subprocess.DEVNULL, timeout=30)


@functools.cache
def free_port():
    """A free port of loopback; the same for the whole session, in which one server follows another."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def interpreters():
    """Interpreters of the supported versions, from the PATH or pyenv."""
    pythons = {}
    for minor in (11, 12, 13):
        paths = [shutil.which(f"python3.{minor}"),
                 *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))]
        working = [path for path in paths if path and subprocess.run(
            [path, "-c", f"import sys, venv; sys.exit(sys.version_info[1] != {minor})"], check=False).returncode == 0]
        if working:
            pythons[f"3.{minor}"] = working[0]
    return pythons


@pytest.fixture(scope="session", params=["any", pytest.param("wheel", marks=pytest.mark.slow)])
def adb_server(request, tmp_path_factory):
    """An adb client, with a server on a port of its own and keys in a folder of its own: Debian's, or else the newer
    one in the wheel of adbutils. Slow tests repeat everything with the latter.

    Tests for which any client will do ask for "any": @pytest.mark.parametrize("adb_server", ["any"], indirect=True).
    """
    paths = adb_clients()
    path = next(iter(paths.values()), None) if request.param == "any" else paths.get(request.param)
    if not path:
        where = {"debian": "in the PATH", "wheel": "in the wheel of adbutils", "any": "anywhere"}[request.param]
        pytest.skip(f"no adb {where}: apt-get install adb, and pip install -r requirements-dev.txt")
    client = Client(path, {**os.environ, "ANDROID_ADB_SERVER_PORT": str(free_port()),
                           "HOME": str(tmp_path_factory.mktemp("home"))})
    client.environment.pop("ANDROID_SERIAL", None)
    client("start-server")
    if attached := client("devices").stdout.split("\n", 1)[1].strip():
        pytest.skip(f"a phone of yours is attached, which the tests would use: {attached}")
    yield client
    client("kill-server")


@pytest.fixture
def client(adb_server, monkeypatch):
    """The adb client of `adb_server`, also for the programs that the test itself starts."""
    for name in ("ANDROID_ADB_SERVER_PORT", "HOME"):
        monkeypatch.setenv(name, adb_server.environment[name])
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return adb_server


class Device:
    """A test device: a process that runs tests/adb_device/device.py.

    Attributes:
        root: Folder of the device's sandbox.
        client: adb client that the device is connected to.
        process: Process of the device.
        serial: Serial of the device, address and port.
        said: Output of `adb connect`.
    """

    def __init__(self, root, client, properties, faults=()):
        self.root, self.client = root, client
        (root / "faults").mkdir(parents=True)
        for name in faults:
            self.fault(name)
        shutil.copytree(ADB_DEVICE / "bin", root / "system" / "bin")
        properties = {**PROPERTIES, "ro.serialno": f"serial of {root.name}", **properties}
        self.write("props", "".join(f"{name}={value}\n" for name, value in properties.items()))
        self.write("model", "test_device")
        self.write("dumpsys_battery", BATTERY)
        self.write("dumpsys_thermalservice", THERMAL)
        for core in range(8):  # as in a Pixel 2, whose fast cores are 4 to 7
            folder = root / "sys/devices/system/cpu" / f"cpu{core}" / "cpufreq"
            folder.mkdir(parents=True)
            (folder / "cpuinfo_max_freq").write_text("1900800\n" if core < 4 else "2457600\n")
            (folder / "scaling_governor").write_text("interactive\n")
        self.process = subprocess.Popen([sys.executable, str(ADB_DEVICE / "device.py"), f"--root={root}"],
                                        stdout=subprocess.PIPE, text=True)
        self.serial = f"127.0.0.1:{self.process.stdout.readline().strip()}"
        self.said = client("connect", self.serial).stdout

    def write(self, name, text):
        """Writes a file of the sandbox."""
        (self.root / name).write_text(text)

    def read(self, name):
        """Lines of a file of the sandbox."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def fault(self, name, text=""):
        """Starts a fault: see device.py and recorded_benchmark.sh."""
        self.write(f"faults/{name}", text)

    def heal(self, name):
        """Ends a fault."""
        (self.root / "faults" / name).unlink()

    def close(self):
        """Disconnects the device and ends its process."""
        self.client("disconnect", self.serial)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def converted_once():
    """Lets the measurer of phones convert each model once in a session, instead of once in each test."""
    from latency.phones.android import Android

    real, kept = Android._converted, {}

    def converted(self, build):
        name = (self._settings.dtype, str(getattr(build, "args", build)))
        if name not in kept:
            kept[name] = real(self, build)
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Android, "_converted", converted)
        yield


@pytest.fixture
def device(client, tmp_path, converted_once):
    """A function that makes devices: device(model="Pixel 2", faults=["no_space"], ...)."""
    devices = []

    def make(faults=(), **properties):
        root = tmp_path / f"device{len(devices)}"
        names = {"model": "ro.product.model", "android": "ro.build.version.release"}
        devices.append(Device(root, client, {names[name]: value for name, value in properties.items()}, faults))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a small disk with the given options, and mounts it again with others."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True,
                              check=False)
        if done.returncode:
            pytest.skip("mounting a disk to fill needs root")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True, check=False)


SMALL_SIDE = 16
SMALL_NAMES = ("top half", "bottom half", "middle columns", "äußere Spalten 外列")


@pytest.fixture(scope="session")
def small_arch():
    """A network with every kind of MBConv: with a shortcut, with a stride, without expansion."""
    from pnas_tf.space.arch import Arch
    from pnas_tf.space.blocks import Block, Space

    space = Space(
        "small", input_size=SMALL_SIDE, input_channels=3, num_classes=4,
        stem=(Block("stem", ("conv_k3",), 8, strides=2),),
        blocks=(Block("b00", ("mb_k3_e3", "mb_k5_e6", "zero"), 8, shortcut=True),
                Block("b01", ("mb_k5_e3",), 16, strides=2),
                Block("b02", ("mb_k3_e1", "zero"), 16, shortcut=True)),
        head=(Block("mix", ("conv_k1",), 32), Block("classifier", ("classifier",), 4)))
    return Arch(space, {"b00": "mb_k5_e6", "b02": "mb_k3_e1"})


def bright_places(count, seed):
    """Random images whose label is the part that is brighter, even after a crop or a flip.

    The colours differ in brightness and contrast.

    Args:
        count: Number of images.
        seed: Seed of images and labels.

    Returns:
        Images, uint8 [count, side, side, 3], and labels, int32 [count].
    """
    import numpy as np

    rng, half, quarter = np.random.default_rng(seed), SMALL_SIDE // 2, SMALL_SIDE // 4
    bright = np.zeros((4, SMALL_SIDE, SMALL_SIDE, 1))
    bright[0, :half] = bright[1, half:] = bright[2, :, quarter:-quarter] = 50
    bright[3] = 50 - bright[2]
    labels = rng.integers(0, 4, count).astype(np.int32)
    images = rng.integers(0, 160, (count, SMALL_SIDE, SMALL_SIDE, 3)) + bright[labels]
    return (images * (1.0, 0.8, 0.6) + (0, 20, 60)).astype(np.uint8), labels


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory):
    """Path of a data set for `npz:PATH`, with 600 training and 300 test images."""
    import numpy as np

    path = str(tmp_path_factory.mktemp("data") / "places.npz")
    (x, y), (x_test, y_test) = bright_places(600, 0), bright_places(300, 1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, class_names=np.array(SMALL_NAMES))
    return path


@pytest.fixture(scope="session")
def grey_data(tmp_path_factory):
    """The small data set with grey images, loaded."""
    import numpy as np

    from pnas_tf import data

    path = tmp_path_factory.mktemp("grey") / "grey.npz"
    (x, y), (x_test, y_test) = bright_places(600, 0), bright_places(300, 1)
    np.savez(path, x_train=x[..., :1], y_train=y, x_test=x_test[..., :1], y_test=y_test,
             class_names=np.array(SMALL_NAMES))
    return data.load(f"npz:{path}")


@pytest.fixture(scope="session")
def small_data(small_npz):
    """The small data set, loaded."""
    from pnas_tf import data

    return data.load(f"npz:{small_npz}")


def trained(arch, data):
    """A network trained until it is mostly right, so that its top-1 accuracy means something."""
    import keras

    from pnas_tf import network

    keras.utils.set_random_seed(0)
    model = network.build_network(arch)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.optimizer.learning_rate = 0.01
    model.fit(data.train.batches(32, seed=0), steps_per_epoch=60, verbose=0)
    return network.portable(model)


@pytest.fixture(scope="session")
def small_model(small_data, small_arch):
    """The small network, trained on the small data set."""
    return trained(small_arch, small_data)


@pytest.fixture(scope="session")
def grey_arch(small_arch):
    """The network `small_arch` for grey images."""
    return dataclasses.replace(small_arch, space=dataclasses.replace(small_arch.space, input_channels=1))


@pytest.fixture(scope="session")
def grey_run(grey_data, grey_arch, tmp_path_factory):
    """A run folder with a network of grey images that takes colour ones, in every mode."""
    from export import facts, tflite
    from export.settings import ExportConfig

    folder = tmp_path_factory.mktemp("grey_run")
    config = ExportConfig(mode=facts.MODES, input="rgb", int8_io="uint8", qat_batch_size=32, author="A. Person",
                          license="Apache-2.0", timing_seconds=0)
    tflite.run(model=trained(grey_arch, grey_data), data=grey_data, config=config, out_dir=str(folder), arch=grey_arch)
    return folder


@pytest.fixture(scope="session")
def small_run(small_model, small_data, small_arch, small_npz, tmp_path_factory):
    """A run folder with the network, exported in every mode, for MediaPipe to read."""
    import json

    from export import facts, tflite
    from export.settings import ExportConfig

    folder = tmp_path_factory.mktemp("run")
    small_model.save(folder / "model.keras")
    small_arch.save(str(folder / "arch.json"))
    (folder / "train.json").write_text(json.dumps({"data": {"dataset": f"npz:{small_npz}", "seed": 0}}))
    config = ExportConfig(mode=facts.MODES, int8_io="uint8", qat_batch_size=32, author="A. Person",
                          license="Apache-2.0", timing_seconds=0)
    tflite.run(model=small_model, data=small_data, config=config, out_dir=str(folder), arch=small_arch)
    return folder


@pytest.fixture(scope="session")
def write_space():
    """A function that writes a space and a latency table of made-up rows for it, as a user has them on disk."""
    from pnas_tf.cost import latency_table

    def write(space, space_file, table_file, target="test"):
        space_file.write_text(json.dumps(space.to_json()))
        rows = [latency_table.row(key, median_ms=0.01 * (1 + number))
                for number, key in enumerate(dict.fromkeys(key for _, key in space.op_keys()))]
        table_file.write_text("".join(json.dumps(line) + "\n" for line in [latency_table.header(target), *rows]))

    return write


@pytest.fixture(scope="module")
def search_graphs():
    """Supernets of the module are compiled as in a search, without TensorFlow's graph optimiser: in half the time."""
    from pnas_tf.supernet import supernet

    supernet.set_graph_optimiser(False)
    yield
    supernet.set_graph_optimiser(True)


@pytest.fixture(scope="session")
def stir():
    """A function that moves a supernet's weights away from their start, where residual ops are zero."""
    import numpy as np

    def moved(net, seed, scale):
        rng = np.random.default_rng(seed)
        candidates = [candidate for mixed_op in net.mixed_ops for candidate in mixed_op.candidates if candidate]
        for kernel in [candidate.kernel for candidate in candidates if candidate.kernel is not None]:
            kernel.assign(kernel.numpy() + scale * rng.normal(size=kernel.shape))
        return net

    return moved


@pytest.fixture(scope="session")
def random_state():
    """A function that makes random arrays with the names and shapes of the original's state_dict() of a net.config."""
    import numpy as np

    def state_of(config, seed=0):
        rng, state = np.random.default_rng(seed), {}

        def conv_norm(name, inside, outside, kernel, depthwise=False):
            shape = (outside, 1 if depthwise else inside, kernel, kernel)
            state[f"{name}.conv.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
            state[f"{name}.bn.weight"] = rng.uniform(0.5, 1.5, outside)
            state[f"{name}.bn.bias"] = rng.normal(0, 0.5, outside)
            state[f"{name}.bn.running_mean"] = rng.normal(0, 0.2, outside)
            state[f"{name}.bn.running_var"] = rng.uniform(0.5, 2, outside)
            state[f"{name}.bn.num_batches_tracked"] = np.int64(7)

        for name in ("first_conv", "feature_mix_layer"):
            layer = config[name]
            conv_norm(name, layer["in_channels"], layer["out_channels"], layer["kernel_size"])
        for number, block in enumerate(config["blocks"]):
            layer, name = block["mobile_inverted_conv"], f"blocks.{number}.mobile_inverted_conv"
            if layer["name"] == "ZeroLayer":
                continue
            inside = layer["in_channels"] * layer["expand_ratio"]
            if layer["expand_ratio"] > 1:
                conv_norm(f"{name}.inverted_bottleneck", layer["in_channels"], inside, 1)
            conv_norm(f"{name}.depth_conv", inside, inside, layer["kernel_size"], depthwise=True)
            conv_norm(f"{name}.point_linear", inside, layer["out_channels"], 1)
        classifier = config["classifier"]
        shape = (classifier["out_features"], classifier["in_features"])
        state["classifier.linear.weight"] = rng.normal(0, 1 / np.sqrt(shape[1]), shape)
        state["classifier.linear.bias"] = rng.normal(0, 0.1, shape[0])
        return {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in state.items()}

    return state_of
