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

from dataclasses import replace

import pytest

from nemo_prm.data.selection import refuse_problems
from nemo_prm.data.splitters import split_thoughts
from nemo_prm.data.steps import make_program
from nemo_prm.data.thoughts import (
    check_inputs,
    prm_rows,
    prm_text,
    refine_hint,
    scored_texts,
    thoughts_of,
    with_thoughts,
)
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.types import Cost, Derivation, LabelRow, Problem

THOUGHTS = ["Thought 1: read\n", "Thought 2: write\n"]
CODE = "```python\nprint(1)\n```\n"
RESPONSE = "".join(THOUGHTS) + CODE


def row(**changes: object) -> LabelRow:
    made = LabelRow(
        problem_id="p",
        response_id="r",
        checkpoint="c",
        prompt="Task\n",
        response=RESPONSE,
        steps=split_thoughts(RESPONSE, "python"),
        labels=(0.5, -1.0, -0.25),
        response_class="revised",
        probes=(),
        cost=Cost(),
        seed=1,
        generator="g",
        sandbox="s",
        derivations=(
            Derivation(1, "Thought 2: other\n```python\nprint(2)\n```\n", 1.0, "Passed."),
            Derivation(1, "```python\nprint(3)\n```", 0.5, "Test 1 of 1:\nwrong"),
            Derivation(2, "```python\nprint(4)\n", 0.0, "Time limit"),
            Derivation(3, "", 0.375, "Wrong answer"),
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_prompt_asks_for_thoughts() -> None:
    asked = with_thoughts(Problem("p", "Sum.", (), language="cpp")).prompt
    assert asked == 'Sum.\nWrite numbered thoughts ("Thought 1: ..."), then the program in a ```cpp block.\n'
    assert with_thoughts(Problem("p", "Sum.\n", (), language="cpp")).prompt == asked


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("Sum.\n```python\n", "Sum.\n"),
        ("Sum.\n```python\ndef f():\n", "Sum.\n```python\ndef f():\n```\n"),
        ("Sum.\n```\nx\n```\n", "Sum.\n```\nx\n```\n"),
    ],
)
def test_a_block_that_the_prompt_leaves_open_is_closed_before_it_asks_for_thoughts(prompt: str, kept: str) -> None:
    problem = with_thoughts(Problem("p", prompt, ()))
    assert problem.prompt == with_thoughts(Problem("p", kept, ())).prompt
    assert make_program(problem, "Thought 1: echo\n```\nprint(input())\n```\n") == "print(input())\n"


def test_a_problem_kept_for_evaluation_is_known_by_the_prompt_that_asks_for_thoughts() -> None:
    kept = Problem("other name", "Task\n", ())
    with pytest.raises(DataError, match="kept for evaluation"):
        refuse_problems([row(prompt=with_thoughts(kept).prompt)], [kept], "kept.jsonl")


def test_what_a_prm_reads_of_a_thought() -> None:
    told = "Test 1 of 2: wrong answer: f(1):\nexpected 2, got 3."
    assert prm_text("plan", THOUGHTS[0], RESPONSE, told, "Task\n") == THOUGHTS[0]
    assert prm_text("no_feedback", THOUGHTS[0], RESPONSE, told, "Task\n") == THOUGHTS[0] + "```\nprint(1)\n```\n"
    assert prm_text("code_prm", THOUGHTS[0], RESPONSE, told, "Task\n") == (
        THOUGHTS[0] + "```\nprint(1)\n```\nTest 1 of 2: wrong answer: f(1): expected 2, got 3.\n"
    )
    thoughts, texts = scored_texts("plan", RESPONSE, "", "python", "Task\n")
    assert [RESPONSE[step.start : step.end] for step in thoughts] == THOUGHTS
    assert texts == [THOUGHTS[0], "".join(THOUGHTS)]
    assert scored_texts("plan", CODE, "", "python", "Task\n") == ((), ["\n"])  # a text has a line to score
    assert refine_hint("Thought 2: write", told).startswith("An earlier attempt had this thought:\nThought 2: write\n")


def test_rows_that_a_prm_learns_from() -> None:
    assert prm_rows(row(), "lines") == [row()]
    first, second, own = prm_rows(row(), "code_prm")
    assert first.response == THOUGHTS[0] + "```\nprint(2)\n```\nPassed.\n"
    assert second.response == "".join(THOUGHTS) + "```\nprint(4)\n```\nTime limit\n"
    assert own.response == "".join(THOUGHTS) + "```\nprint(1)\n```\nWrong answer\n"
    # the label is the thought's, not that of one of its programs
    assert [each.labels for each in (first, second, own)] == [(0.5,), (-1.0,), (-0.25,)]
    assert [each.response_id for each in (first, second, own)] == ["r/1.0", "r/2.0", "r/3.0"]
    for each in (first, second, own):
        assert [(step.start, step.end) for step in each.steps] == [(0, len(each.response))]
        assert each.prompt == "Task\n" and each.finish_reason == "length"  # no EOS is learned from
    assert len(prm_rows(row(), "no_feedback", per_thought=2)) == 4
    [plan] = prm_rows(row(), "plan")
    assert (plan.response, plan.labels) == ("".join(THOUGHTS), (0.5, -1.0))
    bare = row(response=CODE, steps=split_thoughts(CODE, "python"), labels=(1.0,), derivations=())
    assert prm_rows(bare, "plan") == prm_rows(bare, "code_prm") == []


def test_what_is_trained_on_is_what_is_scored() -> None:
    derivation = row().derivations[2]
    response = "".join(THOUGHTS) + derivation.completion
    for inputs in ("code_prm", "no_feedback"):
        _, texts = scored_texts(check_inputs(inputs), response, derivation.feedback, "python", "Task\n")
        assert texts[-1] == prm_rows(row(), check_inputs(inputs))[1].response


def test_a_prompt_may_have_opened_the_block() -> None:
    """As the prompts of LiveCodeBench do; what follows the block is no code."""
    prompt, code = "Task\n```python\n", "# read n\nn = int(input())\nprint(n)\n"
    response = code + "```\nThis prints n.\n"
    text = "# read n\n```\n" + code + "```\nPassed.\n"
    thoughts, texts = scored_texts("code_prm", response, "Passed.", "python", prompt)
    assert [response[step.start : step.end] for step in thoughts] == ["# read n\n"] and texts == [text]
    derivation = Derivation(1, response.removeprefix("# read n\n"), 1.0, "Passed.")
    steps = split_thoughts(response, "python", prompt)
    made = row(prompt=prompt, response=response, steps=steps, labels=(1.0, 1.0), derivations=(derivation,))
    assert [each.response for each in prm_rows(made, "code_prm")] == [text]


def test_thoughts_alone_are_steps() -> None:
    assert [step.kind for step in thoughts_of(RESPONSE, "python", "Task\n")] == ["thought", "thought"]
    with pytest.raises(ConfigError, match="inputs must be one of"):
        check_inputs("code")
