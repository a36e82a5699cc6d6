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

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from nemo_prm.data.steps import split_lines
from nemo_prm.errors import DataError
from nemo_prm.evaluation.report import choose, cost_table, prm_tables, render, summary_tables, visible
from nemo_prm.evaluation.report_items import SearchRunFiles, label_items, search_items
from nemo_prm.types import Cost, Derivation, LabelRow, Probe, ResponseClass, Step, Verdict

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}</style>\"'&amp;\x00\u202e\ud800"
)


def row(response_class: ResponseClass = "revised", number: int = 0, problem: str = "p", text: str = "") -> LabelRow:
    response = text or "a = 1\n# note\nb = 2\nreturn c"
    steps = split_lines(response)
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


def data_of(page: str) -> list[dict[str, Any]]:
    """What the page's script is given."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)  # type: ignore[no-any-return]


def test_every_line_has_the_label_and_the_score_of_its_step() -> None:
    [item] = label_items([row()], {("p", "p/0"): [0.9, 0.1, -0.5, -0.75]})
    assert item["lines"] == [
        ["a = 1", 1.0, 0.9, None, None],
        ["# note", 0.0, 0.1, None, None],
        ["b = 2", -1.0, -0.5, None, None],
        ["return c", -1.0, -0.75, None, None],
    ]
    assert (item["source"], item["id"], item["group"]) == ("labels", "p, p/0", "revised")


def test_lines_outside_the_code_carry_no_label() -> None:
    fenced = "Here:\n```python\nx = 1\ny = 2\n```\n"
    start = fenced.index("x")
    steps = (Step(start, start + 6), Step(start + 6, start + 12))
    [item] = label_items([replace(row(), response=fenced, steps=steps, labels=(0.5, -0.25), probes=())], {})
    assert [line[:2] for line in item["lines"]] == [
        ["Here:", None],
        ["```python", None],
        ["x = 1", 0.5],
        ["y = 2", -0.25],
        ["```", None],
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
        derivations=(Derivation(1, HOSTILE, 0.5, HOSTILE),),
        probes=(Probe(1, 3, 1),),
    )
    versions = {"versions": {HOSTILE: HOSTILE}, "labels": {HOSTILE: 1}, "stages": [{"name": HOSTILE, "seconds": 1}]}
    candidate = {"response": HOSTILE, "scores": None, "public_tests": HOSTILE, "feedback": HOSTILE}
    answer = {"problem_id": HOSTILE, "response": HOSTILE, "candidates": [candidate], "completions": 1, "tokens": 1}
    page = render([hostile], summary=versions, searches=[SearchRunFiles(HOSTILE, [answer], {})])
    page.encode("utf-8")  # the lone surrogate is spelled out
    seen = Elements(page)
    assert seen.tags.count("script") == 2 and "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "style")]
    assert seen.tags.count("style") == 1
    shown = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}</style>\"'&amp;"
    spelled = shown + "\\u0000\\u202e\\ud800"
    assert Elements(page[: page.index('<script type="application/json"')]).text.count(spelled) == 5
    data = json.dumps(data_of(page), ensure_ascii=False)
    assert data.count(json.dumps(spelled, ensure_ascii=False)[1:-1]) == 19


def test_page_refers_to_nothing_outside_itself() -> None:
    page = render([row()])
    outside = page.replace("// Texts reach the page", "")
    assert not re.search(r"https?:|//|@import|url\(", outside)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-\S+='; script-src 'sha256-\S+='; base-uri 'none'; "
        r"form-action 'none'",
        policy,
    )


def test_verdict_search_and_cost_are_shown() -> None:
    kept = (Derivation(2, "b = 3\n", 1.0, "Passed."), Derivation(3, "return d\n", 0.25, "Test 2 of 4: wrong answer"))
    page = render([replace(row(), derivations=kept)])
    [item] = data_of(page)
    notes = dict(item["notes"])
    assert notes["Verdict"] == (
        "wrong_answer: 1 of 4 tests passed in 0.00 s\nfirst failing test: number 2\nexpected '3'\ngot None"
    )  # people count from one
    assert notes["Cost"] == "23 completions, 460 tokens, 23 runs"
    assert item["probes"] == [
        {"steps": 2, "line": 2, "drawn": 3, "passed": 1, "completions": [["b = 3\n", 1.0, "Passed."]]},
        {
            "steps": 3,
            "line": 3,
            "drawn": 20,
            "passed": 0,
            "completions": [["return d\n", 0.25, "Test 2 of 4: wrong answer"]],
        },
    ]
    text = re.sub(r"\s+", " ", Elements(page).text)
    assert "4 steps: 1 good, 2 bad, 1 neutral" in text
    assert cost_table([row(), row("wrong", 1)]).rows == [
        ("revised", "1", "23.0", "460.0", "23.0", "1.2"),
        ("wrong", "1", "23.0", "460.0", "23.0", "1.2"),
        ("all", "2", "23.0", "460.0", "23.0", "1.2"),
    ]


def test_a_refined_candidate_names_what_it_refines() -> None:
    thoughts = "Thought 1: a\nThought 2: b\n```python\npass\n```\n"
    candidates = [
        {"response": "x = 1\ny = 2", "scores": [0.5, -0.5], "public_tests": "wrong_answer"},
        {"response": thoughts, "scores": [0.25, 0.75], "feedback": "Passed.", "refines": 0, "kept": 1},
    ]
    answer = {"problem_id": "p", "response": thoughts, "candidates": candidates, "completions": 2, "tokens": 30}
    [item] = search_items([SearchRunFiles("gvr", [answer], {"verdicts": {"p": "passed"}})])
    assert (item["source"], item["group"]) == ("search gvr", "passed")
    first, second = item["candidates"]
    assert (first["chosen"], first["refines"], first["public"]) == (False, None, "wrong_answer")
    assert (second["chosen"], second["refines"], second["kept"]) == (True, 0, 1)
    assert [line[2] for line in first["lines"]] == [0.5, -0.5]
    assert [line[2] for line in second["lines"]] == [0.25, 0.75, None, None, None]
    assert item["lines"] == second["lines"]


def test_a_prm_is_shown_beside_the_baselines() -> None:
    measured = {"auc": 0.91, "first_error_f1": None, "accuracy": 0.8, "ece": 0.05}
    prm = {
        **dict.fromkeys(("model", "constant", "outcome_only", "perfect_outcome"), measured),
        "first_error": {"bad line": {"before it": 1, "at it": 2, "after it": 3, "nowhere": 4}},
        "roc": [[0, 0], [0.5, 0.75], [1, 1]],
        "reliability": [{"predicted": 0.5, "observed": 0.25, "lines": 7}, {"lines": 0}],
    }
    page = render([], prm=prm)
    lines, matrix = prm_tables(prm)
    assert lines.rows[0] == ("PRM", "0.910", "undefined", "0.800", "0.050")
    assert matrix.rows == [("bad line", "1", "2", "3", "4")]
    assert page.count("data:image/svg+xml;base64,") == 1
    with pytest.raises(DataError, match="schema that evaluate_prm writes"):
        render([], prm={"roc": []})


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


def test_scores_of_lines_stand_at_the_lines_of_the_code() -> None:
    response = "First we read.\n\nThen we add.\n```python\na = 1\nb = 2\n```\n"
    answer = {
        "problem_id": "p",
        "response": response,
        "completions": 1,
        "tokens": 1,
        "candidates": [{"response": response, "num_tokens": 1, "scores": [0.75, -0.5], "public_tests": None}],
    }
    [item] = search_items([SearchRunFiles("best", [answer], {}, "lines")])
    assert [line[2] for line in item["lines"]] == [None, None, None, None, 0.75, -0.5, None]
