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
from itertools import islice

from nemo_prm.data.embedded import split_path
from nemo_prm.data.embedded.chains import SPLITS
from nemo_prm.data.embedded.traces import thought_texts
from nemo_prm.data.splitters import split_thoughts
from nemo_prm.data.steps import extract_code
from nemo_prm.data.thoughts import think_prompt

TEXTS = list(islice(thought_texts(3), 600))
THOUGHT = re.compile(r"Thought \d+: take (.+?) to (.+)\n")  # no expression holds " to "
HINT = re.compile(r"had this thought:\n(Thought (\d+): [^\n]*\n)Its program was run\. (.+)\nWrite a better one\.\n\Z")


def test_the_same_seed_gives_the_same_texts() -> None:
    assert list(islice(thought_texts(3), 600)) == TEXTS != list(islice(thought_texts(4), 600))


def test_a_thought_for_each_line_of_the_program() -> None:
    for _, response in TEXTS:
        *thoughts, code = split_thoughts(response, "python")
        assert {step.kind for step in thoughts} == {"thought"} and code.kind == "code"
        lines = extract_code(response).splitlines()[1:-1]
        assert len(lines) == len(thoughts)
        compile(extract_code(response), "response", "exec")
        said = [THOUGHT.fullmatch(response[step.start : step.end])[1] for step in thoughts]  # type: ignore[index]
        expected = [f"    v = {text}  # {number}" for number, text in enumerate(said, start=1)]
        assert sum(one != other for one, other in zip(expected, lines)) <= 2


def test_a_refinement_shows_a_thought_and_is_followed_by_another_in_its_place() -> None:
    hints = [(HINT.search(prompt), response) for prompt, response in TEXTS]
    shown = [(hint, response) for hint, response in hints if hint is not None]
    assert 0.3 < len(shown) / len(TEXTS) < 0.5
    for hint, response in shown:
        thought, number = hint[1], int(hint[2])
        assert thought not in response
        task = THOUGHT.fullmatch(thought)[2]  # type: ignore[index]
        assert any(
            line.startswith(f"Thought {number}: take ") and line.endswith(f" to {task}")
            for line in response.split("\n")
        )
        assert number <= response.count("Thought ")
        assert re.match(r"Test [12] of 2: (wrong answer|runtime error): solve\(|Passed all 2 tests\.", hint[3])
    prompts = [prompt for prompt, _ in TEXTS if not HINT.search(prompt)]
    assert all(prompt == think_prompt(prompt.split("\n")[0]) for prompt in prompts)


def test_without_slips_all_thoughts_are_right() -> None:
    for prompt, response in islice(thought_texts(5, slip_scale=0.0, refined_share=0.0), 50):
        again = {line for line in response.splitlines() if line.startswith("Thought")}
        tasks = prompt.split(": ", 2)[2].split(".\n")[0].split(", then ")
        assert [THOUGHT.fullmatch(f"{line}\n")[2] for line in sorted(again)] == tasks  # type: ignore[index]


def test_problems_have_a_thought_for_each_operation() -> None:
    for split in SPLITS:
        for line in split_path(split).read_text().splitlines():
            row = json.loads(line)
            assert len(row["thoughts"]) == row["num_operations"]
            lines = [line for line in row["solution"].splitlines() if line.startswith("    v = ")]
            said = [THOUGHT.fullmatch(f"Thought 1: {text}\n")[1] for text in row["thoughts"]]  # type: ignore[index]
        assert [f"    v = {text}" for text in said] == lines


def test_no_prompt_of_a_held_out_problem_is_learned() -> None:
    held = {json.loads(line)["prompt"] for split in ("validation", "test") for line in split_path(split).open()}
    assert not {prompt.split("\n")[0] + "\n" for prompt, _ in TEXTS} & held
