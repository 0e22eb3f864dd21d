"""Text of devices takes linear time to read: a megabyte of the worst text for each reader takes a moment."""

import contextlib
import time

import pytest

from latency.phones import adb, benchmark_output, facts, phone
from pnas_tf.errors import printable

SIZE = 1_000_000
# Beginnings of what a reader looks for, again and again, never ended as it should be.
UNITS = ("\n", " ", "\n ", "\t", "level:", "\nlevel: 1", "\n  level: 1 x", "Thermal Status: ", "\nThermal Status: 1 ",
         "a", "a=", "\nro.serialno=", "\ncpu1=1 a", "\ncpu1=", "\nboot_id=", "ro.", "count=1 ", "\ncount=1 a=1 ",
         "Inference timings in us: ", "\nInference timings in us: 1 Inference (avg): ", "Unconsumed cmdline flags: ",
         "Replacing 1 out of 1 node(s) with delegate (a", "TFLite version ", "TensorFlow Lite version: 1.",
         "\nRun Order\n[a] [b] [c]\n", "1 ", ", ", "[", "\nsize a ", "\nsize a 1 ", "size a 1 \n \n", "0" * 64, "f",
         "\r", "ERROR ", "\x1b[2J", "\x00", "\u2028", "taskset: ", "x\tdevice\n", "List of devices attached\n")
READERS = {
    "read_facts": facts.read_facts, "read_state": facts.read_state, "parse": benchmark_output.parse,
    "op_profile": benchmark_output.op_profile, "excerpt": benchmark_output.excerpt, "clean": benchmark_output.clean,
    "digest": phone._digest, "advice": phone._way_out, "printable": printable}


def shell(text):
    """Reads a text as the answer of a device to a command; the answer has the marks that the command asked for."""
    device = adb.Adb("adb", "x", None)
    device._run = lambda *arguments, timeout_s: (0, text.replace("MARK", arguments[1].split()[1].rstrip(";")))
    return device


# The worst of these texts for each reader, which the quick tests read.
WORST = {"read_facts": ("a", "\nro.serialno="), "read_state": ("\n", "\n "),
         "op_profile": ("\nRun Order\n[a] [b] [c]\n",),
         "parse": ("\nInference timings in us: 1 Inference (avg): ", "\ncount=1 a=1 "), "excerpt": ("ERROR ", "\n"),
         "clean": (" ",), "digest": ("f", " "), "advice": ("taskset: ",), "printable": ("\x00",)}


def check_quick(name, units, read):
    for unit in units:
        text = unit * (SIZE // len(unit))
        begin = time.process_time()
        with contextlib.suppress(benchmark_output.NoTimingError, adb.DeviceError):
            read(text)
        assert time.process_time() - begin < 5, (name, unit)


@pytest.mark.parametrize("name", READERS)
def test_readers_of_their_worst_text(name):
    check_quick(name, WORST[name], READERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_readers_of_every_text(name):
    check_quick(name, UNITS, READERS[name])


@pytest.mark.parametrize("units", [("MARK\n", "\nMARK 1 "), pytest.param(
    ("MARK\n", "\nMARK ", "MARK 1", "MARK 12\n\n", *UNITS), marks=pytest.mark.slow)], ids=["the worst", "every text"])
def test_answers_of_commands(monkeypatch, units):
    monkeypatch.setattr(adb, "devices", lambda path: {})
    for before, after in (("", ""), ("MARK\n", ""), ("MARK\n", "\nMARK 0\n")):
        for name, arguments in (("shell", ("true", 1)), ("sizes", (["a"],))):
            check_quick(name, units, lambda text, ends=(before, after), name=name, arguments=arguments: getattr(
                shell(ends[0] + text + ends[1]), name)(*arguments))


@pytest.mark.parametrize("units", [("x\tdevice\n",), pytest.param(UNITS, marks=pytest.mark.slow)],
                         ids=["the worst", "every text"])
def test_lists_of_devices(monkeypatch, units):
    def read(text):
        monkeypatch.setattr(adb, "_run", lambda *arguments, **options: (0, "List of devices attached\n" + text))
        adb.devices("adb")

    check_quick("devices", units, read)


def test_the_answer_is_what_stands_between_the_marks():
    for answer, expected in (("MARK\nout\n\nMARK 7\n", (7, "out\n")),
                             ("MARK\r\nout\r\n\r\nMARK 0\r\n", (0, "out\r\n\r")),
                             ("MARK\n\nMARK 0\n", (0, "")), ("* daemon started\nMARK\na\n\nMARK 1\n", (1, "a\n"))):
        result = shell(answer).shell("true", 1)
        assert (result.code, result.output) == expected
