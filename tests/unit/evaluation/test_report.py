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
from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from nemo_prm.errors import DataError
from nemo_prm.evaluation.report import choose, lines_of, render, summary_tables, visible
from nemo_prm.types import Cost, LabelRow, Probe, ResponseClass, Step, Verdict

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}</style>\"'&amp;\x00\u202e\ud800"
)


def row(response_class: ResponseClass = "revised", number: int = 0, problem: str = "p", text: str = "") -> LabelRow:
    response = text or "a = 1\n# note\nb = 2\nreturn c"
    starts = [0, *(match.end() for match in re.finditer("\n", response))]
    ends = [*starts[1:], len(response)]
    steps = tuple(Step(start, end) for start, end in zip(starts, ends))
    return LabelRow(
        problem_id=problem,
        response_id=f"{problem}/{number}",
        checkpoint="policy",
        prompt="Return the sum.",
        response=response,
        steps=steps,
        labels=(1.0, 0.0, -1.0, -1.0)[: len(steps)] if not text else (1.0,) * len(steps),
        response_class=response_class,
        probes=(Probe(2, 3, 1), Probe(3, 20, 0)),
        cost=Cost(23, 460, 23, 1.25),
        seed=1,
        generator="megatron",
        sandbox="subprocess",
        verdict=Verdict("wrong_answer", 4, 1, failing_test=1, expected="'3'", actual="None"),
    )


class Elements(HTMLParser):
    """Collects the tags, attributes and text that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_line_has_the_label_of_its_step() -> None:
    lines = lines_of(row())
    assert [(line.text, line.mark, line.style) for line in lines] == [
        ("a = 1", "+", "pos"),
        ("# note", "0", "zero"),
        ("b = 2", "−", "neg"),
        ("return c", "−", "neg"),
    ]


def test_lines_outside_the_code_carry_no_label_and_soft_labels_show_their_value() -> None:
    fenced = "Here:\n```python\nx = 1\ny = 2\n```\n"
    start = fenced.index("x")
    steps = (Step(start, start + 6), Step(start + 6, start + 12))
    lines = lines_of(replace(row(), response=fenced, steps=steps, labels=(0.5, -0.25)))
    assert [(line.text, line.mark, line.label) for line in lines] == [
        ("Here:", "", None),
        ("```python", "", None),
        ("x = 1", "+0.50", 0.5),
        ("y = 2", "−0.25", -0.25),
        ("```", "", None),
    ]


def test_hostile_text_stays_text() -> None:
    hostile = replace(
        row(text=HOSTILE),
        problem_id=HOSTILE,
        response_id=HOSTILE,
        checkpoint=HOSTILE,
        prompt=HOSTILE,
        generator=HOSTILE,
        sandbox=HOSTILE,
        difficulty=HOSTILE,
        verdict=Verdict("runtime_error", 4, 1, failing_test=1, expected=HOSTILE, actual=HOSTILE, message=HOSTILE),
    )
    versions = {"versions": {HOSTILE: HOSTILE}, "labels": {HOSTILE: 1}, "stages": [{"name": HOSTILE, "seconds": 1}]}
    page = render([hostile], summary=versions)
    page.encode("utf-8")  # the lone surrogate is spelled out
    seen = Elements(page)
    assert "script" not in seen.tags and "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "style")]
    assert seen.tags.count("style") == 1
    shown = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}</style>\"'&amp;"
    assert seen.text.count(shown + "\\u0000\\u202e\\ud800") == 17


def test_page_refers_to_nothing_outside_itself() -> None:
    page = render([row()])
    assert not re.search(r"https?:|//|@import|url\(", page)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-\S+='; base-uri 'none'; form-action 'none'", policy
    )


def test_verdict_search_and_cost_are_shown() -> None:
    page = render([row()])
    text = re.sub(r"\s+", " ", Elements(page).text)
    assert "wrong_answer: 1 of 4 tests passed" in text
    assert "number 2" in text  # people count from one
    cells = re.findall(r'<tr><th scope="row">(.*?)</th><td.*?>(.*?)</td><td.*?>(.*?)</td><td>(.*?)</td>', page)
    assert cells == [
        ("first 2 of 4 lines", "3", "1", "yes"),
        ("first 3 of 4 lines", "20", "0", "no"),
    ]
    assert "23 completions, 460 tokens, 23 executions, 1.25 s" in text
    assert "4 lines: 1 good, 2 bad, 1 neutral" in text


def test_choice_mixes_classes_and_problems() -> None:
    rows = [row("wrong", i, f"w{i % 5}") for i in range(20)]
    rows += [row("correct", i, f"c{i % 5}") for i in range(20)]
    rows += [row("revised", i, f"r{i % 5}") for i in range(20)]
    chosen = choose(rows, 12)
    assert [item.response_class for item in chosen] == ["revised"] * 6 + ["correct"] * 3 + ["wrong"] * 3
    assert [item.response_id for item in chosen[:6]] == ["r0/0", "r1/1", "r2/2", "r3/3", "r4/4", "r0/5"]
    only_wrong = choose(rows[:20], 12)
    assert len(only_wrong) == 12
    assert choose(rows[:3] + rows[20:21], 12) == [rows[20], *rows[:3]]
    assert [len(choose(rows, limit)) for limit in (0, 1, 2, 3, 100)] == [0, 1, 2, 3, 60]


def test_summary_is_shown_as_measured() -> None:
    summary = {
        "stages": [{"name": "label", "seconds": 61.3, "reused": True}, {"name": "evaluate", "seconds": 5}],
        "labels": {"correct": 5, "revised": 7, "wrong": 3, "neutral_lines": 11},
        "pass_at_1": {"policy": 0.3125, "rl": None, "rl_prm": 0.5},
        "versions": {"megatron-core": "0.12.3"},
    }
    assert [table.rows for table in summary_tables(summary)] == [
        [("Policy", "31.2 %"), ("RL without PRM", "undefined"), ("RL with PRM", "50.0 %")],
        [("correct", "5"), ("revised", "7"), ("wrong", "3"), ("neutral lines", "11")],
        [("label (reused)", "61.3"), ("evaluate", "5.0")],
        [("megatron-core", "0.12.3")],
    ]
    with pytest.raises(DataError, match="summary"):
        summary_tables({"stages": [{"seconds": 1.0}]})


def test_an_empty_store_gives_a_page_that_says_so() -> None:
    assert "hold no response" in Elements(render([])).text


def test_reordering_characters_are_spelled_out() -> None:
    assert visible("a\u202eb\u2028c\r\td\né 𝛼") == "a\\u202eb\\u2028c\\u000d\td\né 𝛼"
