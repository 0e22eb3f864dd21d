"""The attacks: which file is replaced by what, which command reads it, and how it has to end."""

import dataclasses
import struct
import zipfile
from collections.abc import Callable, Mapping

from tests.attacks import materials as m

QUICK, SLOW = "quick", "slow"


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        area: Area that docs/reliability.md counts.
        name: Name, unique in its area.
        command: Module and arguments, separated by blanks. They run in a folder of their own.
        files: Function that makes each file, by its path in that folder. The folder `run` is the run folder.
        exits: Expected exit code.
        says: Words that the output holds.
        quick: Whether the attack is part of the usual tests.
    """

    area: str
    name: str
    command: str
    files: Mapping[str, Callable[[str], object]] = dataclasses.field(default_factory=dict)
    exits: int = 1
    says: str = ""
    quick: bool = False


SEARCH = ("pnas_tf.search --space=quickstart --table=x86_xnnpack1_float32 --dataset=fashion_mnist_small "
          "--target_ms=0.2 --max_steps=1 --run_dir=run ")
TRAIN = "pnas_tf.train --run_dir=run --dataset=fashion_mnist_small --epochs=1 "
REPORT = "pnas_tf.report --run_dir=run"
RUN = {"run/arch.json": m.content(m.arch()),
       "run/metrics.jsonl": m.content('{"kind": "search", "epoch": 0, "phase": "search", "train_loss": 1.0}\n'),
       "run/run.flags": m.content("--dataset=fashion_mnist_small\n--space=quickstart\n")}
HEADER = ('{"format": "pnas_tf.latency/1", "target": "phone", "device": "x", "runtime": "x", "measurer": "host"}\n')
PRECIOUS = {"outside/precious.txt": m.content("precious\n")}

# What stands in the place of a file that a command reads.
NO_FILES = {"fifo": m.fifo, "zeros": m.zeros, "urandom": m.endless, "folder": m.folder, "missing": m.link("missing"),
            "sparse": m.sparse(20 * 10**9)}
NO_JSON = {"deep": m.repeated(b"[", 200_000), "lists": m.repeated(b"[],\n", 9_000_000, b"[", b"[]]"),
           "objects": m.repeated(b'{"":{}},', 9_000_000, b"[", b"0]"), "binary": m.content(bytes(range(256)) * 40),
           "nulls": m.content(bytes(100_000)), "surrogate": m.content('{"a": "\\ud800"}'),
           "digits": m.repeated(b"9", 1_000_000), "cut": m.content('{"a": [1, 2'), "empty": m.content("")}


def _in_place_of_files():
    """Files that are no files, wherever a command takes a path."""
    places = {"flagfile": "pnas_tf.doctor --flagfile=bad", "train_flagfile": TRAIN + "--flagfile=bad",
              "space": "latency.build_table --space=bad --output=t.jsonl", "arch": TRAIN + "--arch=bad",
              "table": SEARCH.replace("x86_xnnpack1_float32", "bad"), "targets": SEARCH + "--targets=bad:1",
              "compare_table": "latency.compare --space=quickstart --table=bad",
              "compare_arch": "latency.compare --arch=bad --table=x86_xnnpack1_float32",
              "published_yaml": "latency.import_table --format=proxylessnas_yaml --source=bad --output=t.jsonl",
              "published_csv": "latency.import_table --format=tunas --source=bad --output=t.jsonl",
              "published_json": "latency.import_table --format=singlepath_json --source=bad --output=t.jsonl",
              "net_config": "pnas_tf.net_config --source=bad --output=arch.json",
              "profile": "latency.profile --model=bad", "weights": "pnas_tf.import_weights --run_dir=run --source=bad",
              "import": "pnas_tf.doctor --import=bad.py", "cifar": SEARCH.replace("fashion_mnist_small", "cifar10"),
              "npz": SEARCH.replace("fashion_mnist_small", "npz:bad")}
    quick = {("flagfile", "fifo"), ("flagfile", "zeros"), ("flagfile", "sparse"), ("space", "fifo"),
             ("published_csv", "zeros"), ("net_config", "sparse")}
    for place, command in places.items():
        path = {"import": "bad.py", "cifar": "cifar10_jpeg.npz"}.get(place, "bad")
        for kind, make in NO_FILES.items():
            yield Attack("files that are no files", f"{place}_{kind}", command, {path: make},
                         says="cifar10: none of its files" if place == "cifar" and kind != "sparse" else path,
                         quick=(place, kind) in quick)
    for place in ("init_weights", "teacher", "model"):
        command = "export.tflite --model=bad.keras --dataset=fashion_mnist_small" if place == "model" \
            else TRAIN + f"--arch=arch.json --{place}=bad.keras"
        for kind, make in NO_FILES.items():
            yield Attack("files that are no files", f"{place}_{kind}", command,
                         {"bad.keras": make, "arch.json": m.content(m.arch())}, says="bad.keras")


def _run_folders():
    """Files of a run folder from somebody else."""
    no_files = {kind: make for kind, make in NO_FILES.items() if kind != "missing"}  # as if there were none
    for kind, make in {**no_files, **NO_JSON}.items():
        for name in ("arch.json", "train.json", "finalists.json", "front.json", "compare.json", "mistakes.json",
                     "versions.json", "int8.json"):
            yield Attack("run folders", f"{name}_{kind}", REPORT, {**RUN, f"run/{name}": make}, says=name,
                         quick=(name, kind) in {("arch.json", "lists"), ("arch.json", "fifo"), ("train.json", "deep")})
    for kind, make in no_files.items():
        for name in ("metrics.jsonl", "run.flags"):
            yield Attack("run folders", f"{name}_{kind}", REPORT, {**RUN, f"run/{name}": make}, says=name,
                         quick=kind in ("fifo", "zeros"))
    for kind, line in {"lists": b"[]\n", "blank": b"\n", "numbers": b"1\n", "objects": b"{}\n"}.items():
        yield Attack("run folders", f"metrics_of_{kind}", REPORT,
                     {**RUN, "run/metrics.jsonl": m.repeated(line, 90_000_000)}, quick=kind == "lists")
    for name, text in {"repeated": b"--a=b\n", "long": b"x" * 99, "switches": b"--no\n"}.items():
        yield Attack("run folders", f"flags_{name}", REPORT, {**RUN, "run/run.flags": m.repeated(text, 50_000_000)})


def _outside():
    """Links by which a command would change or publish files outside the run folder."""
    victim = m.link("../outside/precious.txt")
    for name, command in {".lock": TRAIN + "--arch=arch.json", ".writing-report.html": REPORT,
                          "report.html": REPORT, "lock": TRAIN + "--arch=arch.json"}.items():
        yield Attack("links", name, command, {**PRECIOUS, **RUN, "arch.json": m.content(m.arch()),
                                              f"run/{name}": victim},
                     exits=0 if "report" in name or name == "lock" else 1, quick=name != "lock")
    yield Attack("links", "table", "latency.build_table --space=quickstart --output=t.jsonl",
                 {**PRECIOUS, "t.jsonl": m.link("outside/precious.txt")})
    yield Attack("links", "imported_table", "latency.import_table --format=singlepath_json --source=s.json "
                 "--output=t.jsonl", {**PRECIOUS, "s.json": m.content({}), "t.jsonl": m.link("outside/precious.txt")})


def _networks():
    """Spaces and archs that would fill the memory."""
    sizes = {"filters30000": {"filters": 30_000, "blocks": 2}, "filters1000000": {"filters": 1_000_000},
             "blocks2900": {"blocks": 2900, "filters": 64, "ops": ("mb_k11_e12", "mb_k9_e12")},
             "small_blocks2900": {"blocks": 2900, "filters": 8, "ops": ("mb_k11_e12", "mb_k9_e12")},
             "pixels8192": {"size": 8192, "stem": "conv_k11", "filters": 64},
             "classes": {"classes": 1_000_000, "filters": 4096}, "fused": {"filters": 3000, "ops": ("fused_k11_e12",
                                                                                                 "fused_k9_e12")},
             "squeeze": {"filters": 60_000, "ops": ("mbse_k3_e12", "mbse_k3_e1")},
             "groups": {"filters": 40_000, "ops": ("group_k11_g2", "group_k11_g1")},
             "channels": {"channels": 1024, "size": 8192}}
    for name, size in sizes.items():
        files = {"space.json": m.content(m.space(**size)), "arch.json": m.content(m.arch(**size))}
        for what, command in {
                "table": "latency.build_table --space=space.json --output=t.jsonl",
                "search": SEARCH.replace("quickstart", "space.json"), "train": TRAIN + "--arch=arch.json",
                "compare": "latency.compare --arch=arch.json --table=x86_xnnpack1_float32"}.items():
            says = "" if what == "compare" else "GB of memory|layers"
            yield Attack("networks", f"{name}_{what}", command, files, says=says,
                         quick=(what == "train" and name in ("filters30000", "blocks2900", "pixels8192"))
                         or (what, name) == ("table", "filters1000000"))
    for flag in ("--width_mult=20 --image_size=8192", "--image_size=8192 --space=proxyless_imagenet --width_mult=20"):
        yield Attack("networks", flag, f"latency.build_table --output=t.jsonl {flag}", says="GB of memory")
    yield Attack("networks", "batch", TRAIN + "--arch=proxyless_mobile --image_size=1024 --batch_size=4000",
                 says="GB of memory")


def _images():
    """Image files that take gigabytes or minutes. They are left out by name, and no other fits the command's limits."""
    bad = {"frame.gif": m.gif((8, 8), [(40_000, 40_000)]),
           "frames.gif": m.gif_with_more_frames([(30_000, 30_000)] * 90),
           "screen.gif": m.gif((65_535, 65_535), [(8, 8)]), "scans.jpg": m.jpeg_of_scans(5000),
           "claims.png": m.png_claiming(2**31 - 1, 2**31 - 1), "claims2.png": m.png_claiming(50_000, 40_000),
           "frames.tiff": m.tiff_of_frames(2), "zeros.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack(
               "<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
           "claims.ppm": b"P6 60000 60000 255\n", "wide.ppm": b"P5 10000 10000 65535\n",
           "claims.webp": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + bytes(12)}
    for name, data in bad.items():
        yield _photo_attack(name, m.content(data), "" if name in ("frames.gif", "frames.tiff") else f"Left out.*{name}",
                            quick=name == "scans.jpg")
    for ending, head in {"jpg": m.jpeg_of_scans(0), "png": m.png_claiming(8, 8), "gif": m.gif((8, 8), [(8, 8)]),
                         "bmp": b"BM", "tiff": m.tiff_of_frames(1), "webp": b"RIFF", "ppm": b"P6 8 8 255\n"}.items():
        yield _photo_attack(f"sparse.{ending}", m.sparse(20 * 10**9, head), f"Left out.*sparse.{ending}")


def _photo_attack(name, make, says, quick=False):
    command = SEARCH.replace("fashion_mnist_small", "folder:photos --image_size=28 --broken_images=skip")
    # The table has no rows for three channels, so that the search ends once the images are read.
    return Attack("images", name, command, m.photos(make, name), says=says, quick=quick)


def _arrays():
    """Arrays that unpack to gigabytes."""
    names = ("x_train", "y_train", "x_test", "y_test")
    npz, cifar = SEARCH.replace("fashion_mnist_small", "npz:bad.npz"), SEARCH.replace("fashion_mnist_small", "cifar10")
    jpeg = [f"{part}_{kind}" for part in ("train", "test") for kind in ("jpeg", "offsets", "labels")]
    for kind, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA), ("deflated", zipfile.ZIP_DEFLATED)):
        bad = m.packed_archive(names, 30_000_000, method)
        yield Attack("arrays", f"npz_{kind}", npz, {"bad.npz": bad}, says="unpack")
        yield Attack("arrays", f"weights_{kind}", "pnas_tf.import_weights --run_dir=run --source=bad.npz",
                     {"bad.npz": bad}, says="unpack|more than")
        yield Attack("arrays", f"cifar_{kind}", cifar,
                     {"cifar10_jpeg.npz": m.packed_archive(jpeg, 20_000_000, method)}, says="unpack")
    for sides in ((65_500, 65_500), (11_000, 12_000), (4_000, 4_000)):
        yield Attack("arrays", f"cifar_jpegs_of_{sides[0]}", cifar, {"cifar10_jpeg.npz": m.jpeg_archive(sides)},
                     quick=sides[0] == 11_000)
    for name, shape, kind in (("shape", (10**6, 10**6), "|u1"), ("text", (2,), "<U2000000000"), ("object", (2,), "|O"),
                              ("negative", (-1, 8), "|u1"), ("ranks", (1,) * 100, "|u1"), ("void", (2,), "|V8")):
        yield Attack("arrays", f"npz_{name}", npz, {"bad.npz": m.archive(
            {f"{each}.npy": m.array(shape, kind, bytes(64)) for each in names})}, quick=name == "shape")
    for number in (1, 2):
        files = {f"data_batch_{each}.bin": m.content(bytes(3073)) for each in range(1, 6)}
        for kind, make in {"fifo": m.fifo, "sparse": m.sparse(20 * 10**9), "zeros": m.zeros}.items():
            yield Attack("arrays", f"cifar_batch{number}_{kind}", cifar,
                         {**files, "test_batch.bin": m.content(bytes(3073)), f"data_batch_{number}.bin": make},
                         quick=(number, kind) == (2, "fifo"))


def _models():
    """Keras and TFLite files that would fill the memory."""
    files = {"units": m.keras_file(m.dense(2**40)), "inputs": m.keras_file(m.dense(8, 2**40)),
             "gigabytes": m.keras_file(m.dense(40_000, 40_000)), "layers": m.keras_file(m.dense(8, layers=12_000)),
             "config_lists": m.keras_file(b"[" + b"[]," * 6_000_000 + b"0]"), "deep": m.keras_file(b"[" * 100_000),
             "code": m.keras_file({"module": "builtins", "class_name": "eval", "config": "1"}),
             "lambda": m.keras_file({"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
                                     "config": {"function": "x"}}),
             "weights": m.keras_file(m.dense(8), bytes(200_000_000)), "no_config": m.archive({"a": b""}),
             "text": m.content("model"), "pickle": m.content(b"\x80\x04}.")}
    for name, make in files.items():
        yield Attack("models", f"{name}_init", TRAIN + "--arch=arch.json --init_weights=bad.keras",
                     {"bad.keras": make, "arch.json": m.content(m.arch())}, quick=name == "units")
        yield Attack("models", f"{name}_export", "export.tflite --model=bad.keras --dataset=fashion_mnist_small",
                     {"bad.keras": make})
    for name, data in {"empty": b"", "text": b"model", "header": b"\x1c\0\0\0TFL3" + bytes(100), "zeros": bytes(10**6),
                       "offsets": b"\xff\xff\xff\x7fTFL3" + b"\xff" * 1000}.items():
        yield Attack("models", f"tflite_{name}", "latency.profile --model=bad.tflite", {"bad.tflite": m.content(data)})


def _flags():
    """Flag files that name each other, and values that no command should believe."""
    yield Attack("flags", "itself", "pnas_tf.doctor --flagfile=a.flags", {"a.flags": m.content("--flagfile=a.flags\n")},
                 says="more than 100 times", quick=True)
    laughs = {f"{number}.flags": m.content(f"--flagfile={number + 1}.flags\n" * 2) for number in range(40)}
    yield Attack("flags", "laughs", "pnas_tf.doctor --flagfile=0.flags", {**laughs, "40.flags": m.content("")},
                 says="more than 100 times")
    for name, data in {"binary": bytes(range(256)), "nulls": bytes(1000), "unknown": b"--no_such_flag=1\n",
                       "nested_fifo": b"--flagfile=pipe\n", "nested_zero": b"--flagfile=/dev/zero\n",
                       "nested_missing": b"--flagfile=missing\n", "words": b"hello world\n"}.items():
        yield Attack("flags", name, "pnas_tf.doctor --flagfile=a.flags", {"a.flags": m.content(data), "pipe": m.fifo})
    for flag in ("--space=../../etc/passwd", "--space=", "--table=/etc/passwd", "--dataset=folder:/proc/self",
                 "--dataset=npz:/etc/passwd", "--dataset=folder:/dev", "--target_ms=nan", "--target_ms=inf",
                 "--target_ms=-1", "--batch_size=-1", "--seed=99999999999999999999", "--limit=params<=nan",
                 "--limit=x<=1", "--targets=:", "--held_out_size=999999999", "--width_mult=nan", "--width_mult=inf",
                 "--image_size=99999", "--teacher=/etc/passwd", "--init_weights=/dev/zero", "--share=x",
                 "--background=\x1b[2J", "--max_steps=x"):
        yield Attack("flags", flag.replace("/", "_"), SEARCH + flag, quick=flag == "--target_ms=nan")


ATTACKS = [*_in_place_of_files(), *_run_folders(), *_outside(), *_networks(), *_images(), *_arrays(), *_models(),
           *_flags()]
