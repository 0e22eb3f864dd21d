"""The report in a browser: it logs nothing on the console, requests nothing, and fits a phone."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from pnas_tf.report import page as page_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.spaces import SPACES
from tests.report.test_report import whole_run_folder

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
               None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium in the PATH: apt-get install chromium")


class Browser:
    """Chromium without a window, driven by the DevTools protocol over a pair of pipes.

    Attributes:
        events: Events that the browser has sent.
    """

    def __init__(self, profile):
        (its_input, self._to), (self._from, its_output) = os.pipe(), os.pipe()

        def place_pipes():  # Chromium reads commands from descriptor 3 and answers on descriptor 4
            commands, answers = (fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (its_input, its_output))
            os.dup2(commands, 3), os.dup2(answers, 4)

        self._process = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             "--remote-debugging-pipe", "about:blank"], preexec_fn=place_pipes, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(its_input), os.close(its_output)
        self._unread, self._count, self._session, self.events = b"", 0, {}, []
        targets = self("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = {"sessionId": self("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        """Sends a command and returns its result; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._unread:
            content = os.read(self._from, 1 << 20)
            assert content, "the browser is gone"
            self._unread += content
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def wait_for(self, method):
        """Waits until an event of this name has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def close(self):
        """Ends the browser."""
        with contextlib.suppress(AssertionError, OSError):
            self("Browser.close")
        self._process.kill()
        self._process.wait()
        os.close(self._to), os.close(self._from)


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests of this file."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        yield browser
        browser.close()


def open_page(browser, path, width):
    """Opens a page.

    Args:
        browser: The browser.
        path: Path of the page.
        width: Width of the window, pixels.

    Returns:
        Messages on the console, addresses that were requested besides the page, and the width of the content in pixels.
    """
    browser.events.clear()
    browser("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    browser("Page.navigate", url=path.as_uri())
    browser.wait_for("Page.loadEventFired")
    content_width = browser("Runtime.evaluate", expression="document.documentElement.scrollWidth")["result"]["value"]
    events = [(event.get("method"), event.get("params", {})) for event in browser.events]
    messages = [params for method, params in events if method in (
        "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
    urls = [params["request"]["url"] for method, params in events if method == "Network.requestWillBeSent"]
    return messages, [url for url in urls if not url.startswith("data:") and url != path.as_uri()], content_width


# Tables, cards and commands that are cut at a side, and names of the target that are broken.
CUT = """[...document.querySelectorAll("table, table *, pre, .card, section, p, li")]
  .filter(element => getComputedStyle(element).display != "inline" && (element.scrollWidth > element.clientWidth + 1
    || element.getBoundingClientRect().right > innerWidth + 1))
  .map(element => element.outerHTML.slice(0, 80)).join("; ")"""
BROKEN = """[...document.querySelectorAll(".word")].filter(word => word.textContent.includes("host_xnnpack1_float32")
  && word.offsetHeight > 1.7 * parseFloat(getComputedStyle(word).lineHeight)).length"""


def value_of(browser, expression):
    """Value of an expression in the open page."""
    return browser("Runtime.evaluate", expression=expression)["result"].get("value")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Paths of three pages: the reports of two runs, and two runs side by side."""
    folder, space, runs = tmp_path_factory.mktemp("browser"), SPACES["proxyless_mobile"], []
    for name, op in (("fast", "mb_k3_e3"), ("slow", "mb_k7_e6")):
        run = folder / name
        run.mkdir()
        probs = {choice: {candidate: (0.7 if candidate == op else 0.05) for candidate in block.ops}
                 for choice, block in space.choices.items()}
        (run / "metrics.jsonl").write_text("".join(json.dumps({
            "kind": "search", "epoch": epoch, "phase": "search", "expected_ms": 30.0 - epoch, "entropy": 1.9,
            "train_loss": 2.0, "held_out_loss": 2.0, "probs": probs}) + "\n" for epoch in range(5)))
        Arch(space, dict.fromkeys(space.choices, op),
             {"target": "a_phone_with_a_rather_long_name_xnnpack4_int8", "table_ms": 25.0, "target_ms": 26.0}
             ).save(str(run / "arch.json"))
        (run / "train.json").write_text(json.dumps({"test_accuracy": 0.75, "dataset": "imagenet"}))
        (run / "compare.json").write_text(json.dumps({"networks": [{"predicted_ms": 1.0, "measured_ms": 1.1}] * 3}))
        runs.append(str(run))
    page_lib.compare(runs, str(folder / "comparison.html"))
    whole = folder / "whole"
    whole.mkdir()
    whole_run_folder(whole)
    return [Path(page_lib.run(runs[0])), folder / "comparison.html", Path(page_lib.run(str(whole)))]


@pytest.mark.parametrize("page", [0, 1, 2], ids=["run", "comparison", "whole"])
@pytest.mark.parametrize("width", [1200, 800, 390])
def test_quiet_offline_and_no_wider_than_the_window(browser, pages, page, width):
    messages, urls, content_width = open_page(browser, pages[page], width)
    assert messages == [] and urls == [] and content_width <= width

    assert value_of(browser, CUT) == "" and value_of(browser, BROKEN) == 0


def test_the_browser_would_tell(browser, pages):
    """A bad page is stopped by its own policy, with messages; without the policy it requests what it must not."""
    bad = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "ran"</script><div style="width: 2000px">wide'
    page = pages[0].with_name("opened.html")
    page.write_text(pages[0].read_text(encoding="utf-8") + bad, encoding="utf-8")
    messages, urls, content_width = open_page(browser, page, 390)
    assert ["Content Security Policy" in message["entry"]["text"] for message in messages] == [True, True]
    assert content_width >= 2000
    bad += """<div style="overflow: auto"><table style="width: 2000px"><tr><td>cut</table></div>
        <span class="word" style="display: inline-block; width: 5rem; line-height: 1rem">host_xnnpack1_<wbr>float32"""
    page.write_text(bad, encoding="utf-8")
    _, urls, _ = open_page(browser, page, 390)
    assert "<table" in value_of(browser, CUT) and value_of(browser, BROKEN) == 1
    assert urls == ["http://127.0.0.1:9/x.png"]
