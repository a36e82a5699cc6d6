# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The report in a real browser: headless Chromium, driven over its debugging pipe (no driver needed)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from nemo_prm.data.steps import split_lines
from nemo_prm.evaluation.ppo_runs import PPORun
from nemo_prm.evaluation.report import render
from nemo_prm.evaluation.report_items import SearchRunFiles
from nemo_prm.types import Cost, Derivation, LabelRow, Probe, ResponseClass, Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
HOSTILE = "x = '</script><script>console.error(1)</script><img src=http://x.invalid/a onerror=console.error(2)>'\n"


class Browser:
    """Speaks the DevTools protocol, NUL-separated JSON, over file descriptors 3 and 4 of the browser."""

    def __init__(self, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        arguments = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        arguments += [f"--user-data-dir={profile}", "--no-first-run", "about:blank"]
        # Bash (dash knows no descriptor over 9) moves the descriptors to the numbers that the browser expects.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._next_id = 0
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network", "Audits"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._next_id += 1
        message = {"id": self._next_id, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == self._next_id:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def page(self, method: str, **params: Any) -> Any:
        return self.call(method, self.session, **params)

    def open(self, path: Path, width: int, scheme: str) -> None:
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.page("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        return self.page("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self, path: Path) -> None:
        shot = self.page("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        methods = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Audits.issueAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in methods]

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        os.close(self._write)  # the browser ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser closed its pipe"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)  # type: ignore[no-any-return]


LABELS: dict[ResponseClass, tuple[float, ...]] = {
    "correct": (1.0, 0.0, 1.0, 1.0, 0.0, 1.0),
    "revised": (1.0, 0.0, 1.0, -1.0, 0.0, -1.0),
    "wrong": (-1.0, 0.0, -1.0, -1.0, 0.0, -1.0),
}


def label_row(response_class: ResponseClass, number: int) -> LabelRow:
    lines = ["def solve(xs):\n", "    # keep the even numbers\n", "    ys = [x for x in xs if x % 2 == 0]\n", HOSTILE]
    lines += ["\n", "    return sorted(ys)[: len(ys) - 1]  # " + "a long comment " * 12]
    response = "".join(lines)
    return LabelRow(
        problem_id=f"problem-{number}",
        response_id=f"problem-{number}/policy/{number}",
        checkpoint="policy",
        prompt="Keep the even numbers,\nthen sort them.",
        response=response,
        steps=split_lines(response),
        labels=LABELS[response_class],
        response_class=response_class,
        probes=(Probe(3, 4, 1), Probe(4, 20, 0)) if response_class == "revised" else (),
        derivations=(Derivation(3, "    return ys\n", 0.6, "Test 2 of 5: wrong answer"),),
        cost=Cost(24, 960, 24, 1.5),
        seed=1,
        generator="megatron",
        sandbox="subprocess",
        difficulty="2",
        verdict=Verdict("passed", 4, 4)
        if response_class == "correct"
        else Verdict("wrong_answer", 4, 1, failing_test=1, expected="[2, 4]", actual="[2]", seconds=0.02),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


THOUGHTS = "Thought 1: read\nThought 2: {}\n```python\nprint({})\n```\n"


def ppo_run() -> PPORun:
    lines = [
        {"text": "x = 1\n", "score": 0.5, "reward": 0.0125, "advantage": -0.5},
        {"text": "return x\n", "score": -0.25, "reward": -0.00625, "advantage": 0.25},
    ]
    sample = {"step": 3, "problem_id": "q", "prompt": "Add.", "outcome": 0.0, "ended": True, "num_tokens": 9}
    return PPORun("rl", {"pass_rate": {0: 0.1, 1: 0.2}}, [{**sample, "lines": lines}])


def search_run() -> SearchRunFiles:
    right = THOUGHTS.format("right", 1)
    candidates = [
        {"response": THOUGHTS.format("wrong", 2), "scores": [0.5, -0.5], "feedback": "Test 1 of 1: wrong answer"},
        {"response": right, "scores": [0.5, 0.9], "feedback": "Passed.", "refines": 0, "kept": 1},
    ]
    answer = {"problem_id": "s", "response": right, "candidates": candidates, "completions": 2, "tokens": 40}
    found = {"pass@1": 1.0, "pass@1_ci": [1.0, 1.0]}
    costs = {"completions_per_problem": 2.0, "tokens_per_problem": 40.0}
    return SearchRunFiles("gvr", [answer], {"results": {"nemo_prm": found}, "verdicts": {"s": "passed"}, **costs})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes: tuple[ResponseClass, ...] = ("revised", "correct", "wrong")
    summary = {
        "stages": [{"name": name, "seconds": 1.0} for name in ("label", "select_data", "train_prm")],
        "labels": {"correct": 1, "revised": 1, "wrong": 1, "neutral_lines": 4},
        "pass_at_1": {"policy": 0.25, "rl": 0.5, "rl_prm": 0.75},
        "versions": {"megatron-core": "0.12.3", "torch": "2.13.0"},
    }
    rows = [label_row(name, i) for i, name in enumerate(classes)]
    scores = {(rows[0].problem_id, rows[0].response_id): [0.9, 0.0, 0.5, -0.5, 0.0, -0.75]}
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        render(rows, summary=summary, runs=[ppo_run()], searches=[search_run()], scores=scores), encoding="utf-8"
    )
    return path


def marks(browser: Browser, where: str = "#detail > table.code") -> list[str]:
    found = browser.evaluate(f"[...document.querySelectorAll('{where} tr.line .mark')].map(cell => cell.textContent)")
    return list(found)


def press(browser: Browser, key: str) -> None:
    browser.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})), 0")


def choose(browser: Browser, name: str, value: str) -> None:
    """Choose an option as a person does: the value, then the event."""
    event = "input" if name == "find" else "change"
    browser.evaluate(
        f"(e => {{ e.value = '{value}'; e.dispatchEvent(new Event('{event}', {{bubbles: true}})); return 0 }})"
        f"(document.getElementById('{name}'))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_shows_without_complaint(browser: Browser, page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    """Set REPORT_SCREENSHOTS to a directory to look at what the browser drew."""
    browser.open(page, width, scheme)
    assert browser.evaluate("document.querySelectorAll('#list option').length") == 5
    assert browser.evaluate("document.querySelectorAll('#detail > .code tr.line').length") == 6
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    shade = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade > 200) == (scheme == "light")  # the style was admitted by its hash
    assert browser.evaluate("document.querySelectorAll('img').length") == 1  # the curves; no image of a response
    browser.screenshot(Path(os.environ.get("REPORT_SCREENSHOTS", tmp_path)) / f"{scheme}-{width}.png")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]


def test_measures_differ_without_colour_and_are_switched(browser: Browser, page: Path) -> None:
    browser.open(page, 1200, "light")
    assert marks(browser) == ["+", "0", "+", "−", "0", "−"]
    press(browser, "2")
    assert marks(browser) == ["+0.900", "0", "+0.500", "−0.500", "0", "−0.750"]
    assert browser.evaluate("document.querySelector('#measures input:checked').value") == "score"
    press(browser, "4")  # there are no advantages: nothing happens
    assert browser.evaluate("document.querySelector('#measures input:checked').value") == "score"
    choose(browser, "source", "PPO rl")
    assert marks(browser) == ["+0.500", "−0.250"]
    for key, expected in (("3", ["+0.013", "−0.006"]), ("4", ["−0.500", "+0.250"])):
        press(browser, key)
        assert marks(browser) == expected
    assert browser.complaints() == []


def test_responses_are_filtered_found_and_walked_through(browser: Browser, page: Path) -> None:
    browser.open(page, 1200, "light")
    title = "document.querySelector('#detail h3 span').textContent"
    assert browser.evaluate(title) == "problem-0, problem-0/policy/0"
    press(browser, "j")
    assert browser.evaluate(title) == "problem-1, problem-1/policy/1"
    press(browser, "k")
    choose(browser, "group", "wrong")
    assert browser.evaluate("document.getElementById('count').textContent") == "1 of 5 responses"
    assert browser.evaluate(title) == "problem-2, problem-2/policy/2"
    choose(browser, "group", "")
    choose(browser, "find", "thought 2: right")
    assert browser.evaluate(title) == "s"
    choose(browser, "find", "no such text")
    assert browser.evaluate("document.getElementById('detail').textContent") == "No response fits."
    press(browser, "j")
    assert browser.complaints() == []


def test_probes_and_refinements_open(browser: Browser, page: Path) -> None:
    browser.open(page, 1200, "light")
    browser.evaluate("document.querySelector('.probes summary').click(), 0")
    shown = browser.evaluate("document.querySelector('.probes details[open]').innerText")
    assert shown.startswith("up to line 3: 1 of 4 completions passed, completable")
    assert "60 % of the tests. Test 2 of 5: wrong answer" in shown and "return ys" in shown
    choose(browser, "source", "search gvr")
    browser.evaluate("document.querySelector('details.chosen summary').click(), 0")
    assert "refines number 1 after 1 thoughts: Passed." in browser.evaluate(
        "document.querySelector('details.chosen summary').innerText"
    )
    assert marks(browser, "details.chosen .pair > div:first-child") == ["+0.500", "−0.500", "", "", ""]
    assert marks(browser, "details.chosen .pair > div:last-child") == ["+0.500", "+0.900", "", "", ""]
    assert browser.complaints() == []


def test_five_thousand_responses(browser: Browser, tmp_path: Path) -> None:
    big = tmp_path / "big.html"
    big.write_text(render([label_row("revised", i) for i in range(5000)]), encoding="utf-8")
    started = time.monotonic()
    browser.open(big, 1200, "light")
    assert browser.evaluate("document.querySelectorAll('#list option').length") == 5000
    seconds = time.monotonic() - started
    print(f"5,000 responses, {big.stat().st_size / 1e6:.1f} MB: shown in {seconds:.2f} s")
    choose(browser, "find", "problem-4999")
    assert browser.evaluate("document.getElementById('count').textContent") == "1 of 5000 responses"
    assert browser.complaints() == []


def test_the_policy_stops_what_escaping_would_miss(browser: Browser, page: Path, tmp_path: Path) -> None:
    """Escaping switched off by hand: the content security policy alone must keep the page inert."""
    broken = tmp_path / "broken.html"
    hostile = "<script>window.hit = 1</script><img src='http://x.invalid/a' onerror='window.hit = 1'>"
    broken.write_text(page.read_text(encoding="utf-8").replace("<h1>", hostile + "<h1>", 1), encoding="utf-8")
    browser.open(broken, 1200, "light")
    assert browser.evaluate("typeof window.hit") == "undefined"
    assert len(browser.complaints()) >= 2  # and this is what a complaint looks like
