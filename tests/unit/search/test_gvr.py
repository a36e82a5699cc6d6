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
"""Generate-Verify-Refine by a policy whose every word is known."""

from __future__ import annotations

from typing import Any, Sequence

import pytest

from nemo_prm.config import SandboxConfig, SearchConfig
from nemo_prm.data.thoughts import check_inputs
from nemo_prm.errors import ConfigError, DataError, PromptTooLongError
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.search.driver import Answer, Tools, run_searches
from nemo_prm.search.moves import Assess, Draw, PublicProblem, Refinement, Search
from nemo_prm.search.strategies import strategy
from nemo_prm.types import Completion, Problem, SamplingParams, TestCase

PROMPT = "Double it, then add one.\n"
FIRST, BAD, GOOD = "Thought 1: double\n", "Thought 2: add two\n", "Thought 2: add one\n"


def code(added: int) -> str:
    return f"```python\ndef f(v):\n    return 2 * v + {added}\n```\n"


PROBLEM = Problem(
    "p",
    PROMPT,
    tests=(TestCase("call", args=(7,), expected=15),),
    public_tests=(TestCase("call", args=(1,), expected=3),),
    entry_point="f",
)


class Policy:
    """Says the bad thought unless it is told so."""

    name = "table"

    def __init__(self, refined: str = GOOD + code(1)) -> None:
        self.prompts: list[str] = []
        self.refined = refined

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        self.prompts += list(prompts) * n
        return [[Completion(self._say(prompt), 10, "stop")] * n for prompt in prompts]

    def _say(self, prompt: str) -> str:
        return self.refined if "An earlier attempt" in prompt else FIRST + BAD + code(2)


class Scores:
    """-0.5 for each thing that is bad in a text, 0.8 where nothing is, at each of its lines."""

    def __init__(self, bad: str = "add two") -> None:
        self.bad = bad
        self.texts: list[str] = []

    def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
        assert set(prompts) == {PROMPT}
        self.texts += responses
        return [[9.0] * response.count("\n") + [-0.5 if self.bad in response else 0.8] for response in responses]


@pytest.fixture(scope="module")
def verifier() -> Any:
    return default_verifier(SandboxConfig(minimum_level="rlimits"))


def search(verifier: Any, policy: Policy, scores: Scores, **options: Any) -> Answer:
    chosen = SearchConfig(**{"inputs": "code_prm", "width": 1, "budget": 8, **options})
    tools = Tools(policy, verifier, scores, SamplingParams(), 1, check_inputs(chosen.inputs))
    [found] = run_searches([PROBLEM], strategy("gvr", chosen), tools, chosen.budget)
    return found


def test_the_doubted_thought_is_refined_with_its_feedback(verifier: Any) -> None:
    policy, scores = Policy(), Scores()
    found = search(verifier, policy, scores)
    told = "Test 1 of 1: wrong answer: f(1): expected 3, got 4."
    assert policy.prompts == [
        PROMPT,
        f"{PROMPT}An earlier attempt had this thought:\n{BAD}Its program was run. {told}\n"
        f"Write a better one.\n{FIRST}",
    ]
    assert found.response == FIRST + GOOD + code(1)
    assert (found.completions, found.tokens) == (2, 20)  # of 8: what holds is the answer
    before, after = found.candidates
    assert (before.refines, before.kept, before.public_tests, before.feedback) == (None, None, "wrong_answer", told)
    assert (after.refines, after.kept, after.public_tests, after.feedback) == (0, 1, "passed", "Passed.")
    assert (before.scores, after.scores) == ([0.8, -0.5], [0.8, 0.8])
    program = "```\ndef f(v):\n    return 2 * v + 2\n```\n"
    assert scores.texts[:2] == [f"{FIRST}{program}{told}\n", f"{FIRST}{BAD}{program}{told}\n"]


@pytest.mark.parametrize(("inputs", "text"), [("no_feedback", FIRST + "```\n"), ("plan", FIRST)])
def test_a_prm_reads_what_it_was_trained_to_read(verifier: Any, inputs: str, text: str) -> None:
    scores = Scores()
    assert search(verifier, Policy(), scores, inputs=inputs).response == FIRST + GOOD + code(1)
    assert scores.texts[0].startswith(text) and "expected" not in "".join(scores.texts)
    assert (scores.texts[0] == text) is (inputs == "plan")


def test_it_begins_anew_after_so_many_rounds_and_keeps_to_its_budget(verifier: Any) -> None:
    policy = Policy(refined=BAD + code(3))
    found = search(verifier, policy, Scores(), rounds=2, budget=7)
    drawn = ["refined" if "An earlier" in prompt else "new" for prompt in policy.prompts]
    assert drawn == ["new", "refined", "refined", "new", "refined", "refined", "new"]
    assert found.completions == 7
    assert found.response == FIRST + BAD + code(2)  # all are alike: the first


def test_a_refinement_that_does_not_fit_the_context_costs_nothing(verifier: Any) -> None:
    class Short(Policy):
        def generate(self, prompts: Sequence[str], *rest: Any, **others: Any) -> list[list[Completion]]:
            if "An earlier attempt" in prompts[0]:
                raise PromptTooLongError("too long", [0])
            return super().generate(prompts, *rest, **others)

    policy = Short()
    found = search(verifier, policy, Scores(), width=2, budget=7)
    assert policy.prompts == [PROMPT] * 7 and found.completions == len(found.candidates) == 7


def test_where_no_thought_is_doubted_it_begins_anew(verifier: Any) -> None:
    policy = Policy()
    assert search(verifier, policy, Scores(bad="nothing"), budget=3).completions == 3
    assert policy.prompts == [PROMPT] * 3


def test_a_refinement_keeps_the_thoughts_before_it(verifier: Any) -> None:
    def careless(known: PublicProblem) -> Search:
        [[response]] = yield Draw(("",), 1)
        yield Assess((response,))
        yield Draw((FIRST,), 1, Refinement(response, 0))
        return ""

    with pytest.raises(DataError, match="goes on from the thoughts before"):
        run_searches([PROBLEM], careless, Tools(Policy(), verifier, Scores(), SamplingParams(), 1, "plan"), 9)


def test_strategies_fit_what_the_prm_reads() -> None:
    with pytest.raises(ConfigError, match="gvr goes by scores of thoughts"):
        strategy("gvr", SearchConfig())
    with pytest.raises(ConfigError, match="beam goes by scores of lines"):
        strategy("beam", SearchConfig(inputs="plan"))
    with pytest.raises(ConfigError, match="inputs must be one of lines, code_prm, no_feedback, plan, found 'x'"):
        strategy("gvr", SearchConfig(inputs="x"))


def test_best_of_n_by_thoughts(verifier: Any) -> None:
    class Alternating(Policy):
        def generate(self, prompts: Sequence[str], n: int, *args: Any) -> list[list[Completion]]:
            texts = [FIRST + BAD + code(2), FIRST + GOOD + code(1)] * n
            return [[Completion(text, 1, "stop") for text in texts[:n]] for _ in prompts]

    for by in ("prm", "public", "both"):
        options = SearchConfig(budget=4, by=by, aggregate="last", inputs="code_prm")
        tools = Tools(Alternating(), verifier, Scores(), SamplingParams(), 1, "code_prm")
        [found] = run_searches([PROBLEM], strategy("best_of_n", options), tools, 4)
        assert found.response == FIRST + GOOD + code(1), by
