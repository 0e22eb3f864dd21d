"""A phone's facts and state are read from its output, and the fastest cores are chosen; no phone needed."""

import pytest

from latency.phones import facts as phone

PIXEL_1 = {0: 1593600, 1: 1593600, 2: 2150400, 3: 2150400}
PIXEL_2 = {**dict.fromkeys(range(4), 1900800), **dict.fromkeys(range(4, 8), 2457600)}
PIXEL_6 = {**dict.fromkeys(range(4), 1803000), 4: 2253000, 5: 2253000, 6: 2802000, 7: 2802000}


@pytest.mark.parametrize(("cores", "threads", "mask"), [
    (PIXEL_1, 1, "c"), (PIXEL_2, 1, "f0"),  # as in TensorFlow Lite's own guide
    (PIXEL_2, 4, "f0"), (PIXEL_2, 5, "ff"), (PIXEL_6, 1, "c0"), (PIXEL_6, 2, "c0"), (PIXEL_6, 3, "f0"),
    (PIXEL_6, 4, "f0"), (PIXEL_6, 8, "ff"), (PIXEL_6, 99, "ff"), ({}, 1, "all")])
def test_cores_are_taken_from_the_fastest_cluster_down(cores, threads, mask):
    assert phone.cpu_mask(cores, threads) == mask


def test_facts():
    """A newer phone names its SoC, cores without cpufreq are left out, and control characters are replaced."""
    text = "\r\n".join(["ro.product.manufacturer=Google", "ro.product.model=Pixel 6\x1b[2J",
                        "ro.soc.manufacturer=Google", "ro.soc.model=Tensor", "ro.board.platform=gs101",
                        "ro.build.version.release=14",
                        "ro.build.version.sdk=34", "ro.build.id=AP1A", "ro.product.cpu.abi=arm64-v8a",
                        *(f"cpu{core}={khz} sched_pixel" for core, khz in PIXEL_6.items()), "cpu8=", "cpuX=1 a", ""])
    facts = phone.read_facts(text)
    assert (facts.device, facts.soc, facts.android, facts.abi) == (
        "Google Pixel 6?[2J", "Google Tensor", "14 (API 34, AP1A)", "arm64-v8a")
    assert facts.cores == {core: (khz, "sched_pixel") for core, khz in PIXEL_6.items()}
    assert facts.clusters() == "4 x 1803 MHz, 2 x 2253 MHz, 2 x 2802 MHz"
    unknown = phone.read_facts("")
    assert (unknown.device, unknown.soc, unknown.cores, unknown.clusters()) == ("unknown", "unknown", {}, "")


@pytest.mark.parametrize(("text", "state"), [
    ("  level: 83\n  scale: 100\n  temperature: 312\nIsStatusOverride: false\nThermal Status: 2\n", (83, 31.2, 2)),
    ("  level: 100\r\n  scale: 200\r\n  temperature: -45\r\n", (50, -4.5, None)),
    ("Can't find service: thermalservice", (None, None, None)), ("  level: x\n  temperature: 1e9\n", (None,) * 3)])
def test_state(text, state):
    assert phone.read_state(text) == phone.State(*state)
