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
import math
from typing import Sequence

import pytest

from nemo_prm.config import EvaluateConfig
from nemo_prm.errors import ConfigError, PromptTooLongError
from nemo_prm.evaluation.evaluate import Sample, evaluate
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.types import Completion, Problem, SamplingParams, TestCase, Verdict

RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"


class ScriptedPolicy:
    """Answers each prompt with its list of (text, tokens), in order; the other end of the `Generator` protocol."""

    name = "scripted"

    def __init__(self, answers: dict[str, list[tuple[str, int]]], too_long: Sequence[str] = ()) -> None:
        self.answers, self.too_long = answers, too_long
        self.calls: list[tuple[list[str], int, SamplingParams, int]] = []

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        self.calls.append((list(prompts), n, params, seed))
        indices = [i for i, prompt in enumerate(prompts) if prompt in self.too_long]
        if indices:
            raise PromptTooLongError("prompts are too long", indices)
        return [
            [Completion(text, tokens, "stop") for text, tokens in self.answers[prompt][first : first + n]]
            for prompt in prompts
        ]


class BrokenJudge:
    """A verifier that knows no verdict for programs that say so; every other program passes."""

    name = "broken"

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        return Verdict("infra_error" if "unknown" in program else "passed")

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return [self.verify(problem, program) for problem, program in jobs]


def problem(name: str, difficulty: str | None = None) -> Problem:
    tests = (TestCase("call", args=(1, 2), expected=3), TestCase("call", args=(5, 5), expected=10))
    return Problem(name, f"prompt of {name}", tests, entry_point="add", difficulty=difficulty)


def config(**changes: object) -> EvaluateConfig:
    return EvaluateConfig(output="unused", **{"samples": 4, "k": [1, 2], **changes})  # type: ignore[arg-type]


def test_estimates_by_problem_difficulty_and_length() -> None:
    policy = ScriptedPolicy(
        {
            "prompt of a": [(RIGHT, 50), (WRONG, 51), (WRONG, 100), (WRONG, 101)],
            "prompt of b": [(RIGHT, 10), (f"```python\n{RIGHT}```", 10), (RIGHT, 200), ("syntax error", 10)],
        }
    )
    seen: list[Sample] = []
    problems = [problem("a", "10"), problem("b", "2")]
    result = evaluate(problems, policy, default_verifier(config().sandbox), config(), seen.append)

    assert result.pass_at_k[1].mean == 0.5  # 1/4 and 3/4
    assert result.pass_at_k[2].mean == 0.75  # 1 - C(3,2)/C(4,2) = 1/2, and 1 - 0 = 1
    assert list(result.by_difficulty) == ["2", "10"]
    assert result.by_difficulty["10"][1].mean == 0.25
    assert result.by_length == {"<=50": (0.75, 4), "51-100": (0.0, 2), ">100": (0.5, 2)}
    assert (result.num_problems, result.num_samples, result.num_unknown, result.skipped) == (2, 8, 0, ())
    assert [(s.problem_id, s.sample, s.status) for s in seen[:3]] == [
        ("a", 0, "passed"),
        ("a", 1, "wrong_answer"),
        ("a", 2, "wrong_answer"),
    ]
    assert seen[7].status == "compile_error"
    assert "difficulty 10, pass@1" in result.as_table()


def test_samples_with_the_papers_settings_in_requests_of_bounded_size() -> None:
    problems = [problem(f"p{i}") for i in range(5)]
    policy = ScriptedPolicy({item.prompt: [(RIGHT, 10)] * 10 for item in problems})
    settings = EvaluateConfig(output="unused")
    settings.generator.batch_size = 20
    evaluate(problems, policy, default_verifier(settings.sandbox), settings)
    assert [len(prompts) for prompts, *_ in policy.calls] == [2, 2, 1]
    assert {(n, params.temperature, params.top_p) for _, n, params, _ in policy.calls} == {(10, 0.2, 0.95)}
    assert {seed for *_, seed in policy.calls} == {settings.seed}  # so that samples do not depend on the cut


def test_an_unknown_verdict_is_neither_a_pass_nor_a_failure() -> None:
    answers = {"prompt of a": [("ok", 1), ("unknown", 1)], "prompt of b": [("unknown", 1), ("unknown", 1)]}
    result = evaluate([problem("a"), problem("b")], ScriptedPolicy(answers), BrokenJudge(), config(samples=2))
    assert result.num_unknown == 3
    assert result.pass_at_k[1] == (1.0, 1.0, 1.0, 1)  # of problem a's one known sample; b says nothing
    assert math.isnan(result.pass_at_k[2].mean)  # no problem has two known samples
    assert result.by_length["<=50"] == (1.0, 1)
    content = json.loads(json.dumps(result.as_json(config(samples=2)), allow_nan=False))
    assert content["results"]["nemo_prm"]["pass@1"] == 1.0
    assert content["results"]["nemo_prm"]["pass@2"] is None
    assert content["results"]["nemo_prm"]["pass@2_ci"] == [None, None]
    assert content["by_length"][">100"] == {"pass_rate": None, "num_samples": 0}
    assert "3 of 4 samples have no verdict" in result.as_table()


def test_prompts_that_do_not_fit_are_skipped_and_counted() -> None:
    policy = ScriptedPolicy({"prompt of b": [(RIGHT, 1)] * 4}, too_long=["prompt of a", "prompt of c"])
    problems = [problem("a"), problem("b"), problem("c")]
    result = evaluate(problems, policy, default_verifier(config().sandbox), config())
    assert result.skipped == ("a", "c")
    assert (result.num_problems, result.num_samples, result.pass_at_k[1].mean) == (1, 4, 1.0)
    assert "2 problems were skipped" in result.as_table()
    nothing = evaluate(problems[:1], policy, default_verifier(config().sandbox), config())
    assert math.isnan(nothing.pass_at_k[1].mean)


def test_results_do_not_hold_the_servers_token() -> None:
    settings = config()
    settings.generator.token = settings.sandbox.remote.token = "secret-token"
    result = evaluate([problem("a")], ScriptedPolicy({"prompt of a": [(RIGHT, 1)] * 4}), BrokenJudge(), settings)
    assert "secret-token" not in json.dumps(result.as_json(settings))
    assert result.as_json(settings)["config"]["samples"] == 4


@pytest.mark.parametrize("changes", [{"samples": 0}, {"k": [0]}, {"k": [5]}])
def test_settings_that_cannot_give_an_estimate_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        evaluate([problem("a")], ScriptedPolicy({}), BrokenJudge(), config(**changes))
