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
"""Searches over a policy that is a table, with the real sandbox and a PRM that is a table too."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import pytest

from nemo_prm.config import GeneratorConfig, SandboxConfig, SearchConfig
from nemo_prm.data.steps import split_lines
from nemo_prm.errors import ConfigError, DataError, PromptTooLongError
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.search.driver import Answer, Tools, public_view, run_searches
from nemo_prm.search.moves import Draw, PublicProblem, Run, Score, Search
from nemo_prm.search.ranking import AGGREGATES, best, public_share
from nemo_prm.search.run import SearchRun
from nemo_prm.search.strategies import STRATEGIES, strategy
from nemo_prm.types import Completion, Problem, SamplingParams, TestCase, Verdict

SECRET = "hidden-5fb1"
# what the policy writes, in this order, after the prompt and whatever prefix of these
STREAM = ["print(1)\n", "x = 2\nprint(x)\n", "x = 3\nprint(x)\n", "x = 2\ny = x\nprint(4)\n"]
SCORES = {"print(1)": -0.5, "x = 2": 0.9, "x = 3": 0.2, "print(x)": 0.4, "y = x": 0.8, "print(4)": 0.7}


def problem(name: str = "p", public: str = "2\n", hidden: str = "2\n", prompt: str | None = None) -> Problem:
    return Problem(
        problem_id=name,
        prompt=prompt or f"Task {name}\n",
        tests=(TestCase(kind="stdio", stdin=SECRET, stdout=hidden),),
        public_tests=(TestCase(kind="stdio", stdout=public),),
        difficulty="easy",
        extra={"solution": SECRET},
    )


class Table:
    """Continues a prefix by the responses of STREAM that begin with it, over and over."""

    name = "table"

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], int, int]] = []

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        self.calls.append((list(prompts), n, first))
        long = [index for index, prompt in enumerate(prompts) if prompt.startswith("Long")]
        if long:
            raise PromptTooLongError("too long", long)
        rows = []
        for prompt in prompts:
            prefix = prompt.split("\n", 1)[1]
            fitting = [each[len(prefix) :] for each in STREAM if each.startswith(prefix)]
            texts = [fitting[number % len(fitting)] for number in range(first, first + n)]
            rows.append([Completion(text, len(text), "stop") for text in texts])
        return rows


class Scores:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
        self.asked += responses
        return [[SCORES.get(line, 0.1) for line in response.splitlines()] for response in responses]


@pytest.fixture(scope="module")
def verifier() -> Any:
    return default_verifier(SandboxConfig(minimum_level="rlimits"))


def tools(verifier: Any) -> Tools:
    return Tools(Table(), verifier, Scores(), SamplingParams(), 1)


def answer(name: str, verifier: Any, **options: Any) -> Answer:
    chosen = SearchConfig(**options)
    [found] = run_searches([problem()], strategy(name, chosen), tools(verifier), chosen.budget)
    return found


def test_single_takes_the_first(verifier: Any) -> None:
    found = answer("single", verifier)
    assert (found.response, found.completions, found.tokens) == ("print(1)\n", 1, 9)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by": "prm", "aggregate": "last"}, "x = 2\ny = x\nprint(4)\n"),  # 0.7
        ({"by": "prm", "aggregate": "min"}, "x = 2\ny = x\nprint(4)\n"),  # 0.7 against 0.4
        ({"by": "prm", "aggregate": "mean"}, "x = 2\ny = x\nprint(4)\n"),  # 0.8 against 0.65
        ({"by": "prm", "aggregate": "product"}, "x = 2\ny = x\nprint(4)\n"),  # 0.95 * 0.9 * 0.85 = 0.727, 0.665
        ({"by": "public"}, "x = 2\nprint(x)\n"),
        ({"by": "both"}, "x = 2\nprint(x)\n"),
        ({"by": "prm", "budget": 3}, "x = 2\nprint(x)\n"),
    ],
)
def test_best_of_n(verifier: Any, options: dict[str, Any], expected: str) -> None:
    found = answer("best_of_n", verifier, **{"budget": 4, **options})
    assert found.response == expected
    assert found.completions == len(found.candidates) == options.get("budget", 4)


class CodeScores:
    """As a reward server with `rules.code_only`: 0.9 for lines that say good, -0.9 for bad ones, in code alone."""

    def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
        lines = [[r[step.start : step.end] for step in split_lines(r)] for r in responses]
        return [[0.9 if "good" in line else -0.9 for line in row] for row in lines]


class Fenced:
    """Two responses with the code in a fence, behind prose."""

    name = "fenced"

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        self.prompts += prompts
        texts = [f"Here:\n```python\n{body}x\ny\n```\n" for body in ("bad\ngood\n", "good\nbad\n")]
        return [
            [Completion(texts[(first + i) % 2].removeprefix(prompt.split("\n", 1)[1]), 1, "stop") for i in range(n)]
            for prompt in prompts
        ]


@pytest.mark.parametrize("lines", [1, 3])
def test_beam_reads_the_scores_of_a_server_that_scores_code_alone(verifier: Any, lines: int) -> None:
    policy = Fenced()
    used = Tools(policy, verifier, CodeScores(), SamplingParams(), 1)
    chosen = SearchConfig(budget=8, by="prm", width=1, lines=lines)
    run_searches([problem()], strategy("beam", chosen), used, 8)
    assert policy.prompts[1] == "Task p\nHere:\n```python\ngood\n"


@pytest.mark.parametrize("name", ["single", "best_of_n", "beam"])
def test_what_does_not_fit_the_context_costs_nothing(verifier: Any, name: str) -> None:
    chosen = SearchConfig(budget=8, by="prm")
    [found] = run_searches([problem(prompt="Long\n")], strategy(name, chosen), tools(verifier), 8)
    assert (found.response, found.completions, found.tokens, found.candidates) == ("", 0, 0, [])


def test_beam_goes_on_where_the_best_prefixes_end(verifier: Any) -> None:
    chosen = SearchConfig(budget=8, by="prm", width=1, lines=1)
    used = tools(verifier)
    [found] = run_searches([problem()], strategy("beam", chosen), used, 8)
    assert [(prompts, n, first) for prompts, n, first in used.generator.calls] == [  # type: ignore[attr-defined]
        (["Task p\n"], 2, 0),  # "print(1)\n" cannot grow; "x = 2\n" has 0.9
        (["Task p\nx = 2\n"], 2, 0),  # one more line: "y = x\n" has 0.8, the other response is at its end
        (["Task p\nx = 2\ny = x\n"], 2, 0),  # nothing is left to grow
    ]
    assert found.response == "x = 2\ny = x\nprint(4)\n" and found.completions == 6


def test_a_prefix_that_is_drawn_again_goes_on_in_its_stream(verifier: Any) -> None:
    def twice(known: PublicProblem) -> Search:
        [first] = yield Draw(("",), 1)
        [second] = yield Draw(("",), 2)
        return "".join([*first, *second])

    [found] = run_searches([problem()], twice, tools(verifier), 3)
    assert found.response == "".join(STREAM[:3])


def test_searches_share_batches_and_ask_nothing_twice(verifier: Any) -> None:
    used = tools(verifier)
    names = ["a", "b", "c"]
    found = run_searches([problem(name) for name in names], strategy("best_of_n", SearchConfig(budget=4)), used, 4)
    assert [each.problem_id for each in found] == names
    assert used.generator.calls == [([f"Task {name}\n" for name in names], 4, 0)]  # type: ignore[attr-defined]

    def again(known: PublicProblem) -> Search:
        scores = yield Score(("print(1)\n", "print(1)\n"))
        same = yield Score(("print(1)\n",))
        return str(scores == [*same, *same])

    used = tools(verifier)
    assert run_searches([problem()], again, used, 1)[0].response == "True"
    assert used.scorer.asked == ["print(1)\n"]  # type: ignore[union-attr]


def test_a_prompt_that_fills_the_context_is_answered_with_nothing(verifier: Any) -> None:
    problems = [problem("a"), problem("b", prompt="Long\n")]
    found = run_searches(problems, strategy("best_of_n", SearchConfig(budget=2)), tools(verifier), 2)
    assert [bool(each.response) for each in found] == [True, False]


def test_the_budget_is_a_promise(verifier: Any) -> None:
    def greedy(known: PublicProblem) -> Search:
        yield Draw(("", "x = 2\n"), 2)
        return ""

    with pytest.raises(DataError, match="a search drew 4 completions, and its budget is 3"):
        run_searches([problem()], greedy, tools(verifier), 3)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_no_search_sees_a_hidden_test(verifier: Any, name: str) -> None:
    seen: list[str] = []

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, attribute: str) -> Any:
            function = getattr(self.inner, attribute)

            def call(*args: Any, **keywords: Any) -> Any:
                seen.append(repr((args, keywords)))
                return function(*args, **keywords)

            return call if callable(function) else function

    verified: list[Any] = []

    class Judge:
        def submit(self, *args: Any) -> Any:
            verified.append(args)
            return verifier.submit(*args)

    inner = tools(verifier)
    used = inner._replace(generator=Watched(inner.generator), verifier=Judge(), scorer=Watched(inner.scorer))

    def watched(known: PublicProblem) -> Search:
        seen.append(repr(known))
        return strategy(name, SearchConfig(budget=4, by="both", inputs="code_prm" if name == "gvr" else "lines"))(
            known
        )

    run_searches([problem()], watched, used._replace(inputs="code_prm"), 4)
    assert seen and not any(SECRET in each for each in seen)
    judged = [args for args in verified if args]
    assert (name == "single") is not bool(judged)
    assert all(tests == problem().public_tests for _, _, tests in judged)  # what the sandbox is asked to run
    assert SECRET not in repr(public_view(problem()))
    assert public_view(problem()).tests == ()


def test_what_is_missing_is_said(verifier: Any) -> None:
    blind = tools(verifier)._replace(scorer=None)
    with pytest.raises(ConfigError, match="start serve_reward"):
        run_searches([problem()], strategy("best_of_n", SearchConfig(budget=2)), blind, 2)

    def wants_tests(known: PublicProblem) -> Search:
        yield Run(("print(1)\n",))
        return ""

    bare = Problem("p", "Task\n", tests=problem().tests)
    with pytest.raises(ConfigError, match="problem 'p' has no public tests: set by=prm"):
        run_searches([bare], wants_tests, tools(verifier), 2)
    with pytest.raises(ConfigError, match="strategy must be one of single, best_of_n, beam, gvr, found 'x'"):
        strategy("x", SearchConfig())
    for options, message in (
        ({"by": "luck"}, "by must be"),
        ({"aggregate": "sum"}, "aggregate"),
        ({"budget": 0}, "budget"),
    ):
        with pytest.raises(ConfigError, match=message):
            strategy("best_of_n", SearchConfig(**options))  # type: ignore[arg-type]


def test_ranking() -> None:
    assert AGGREGATES["product"]([0.0, 1.0, 5.0]) == pytest.approx(math.log(0.5))
    assert public_share(Verdict("wrong_answer", num_tests=4, num_passed=3)) == 0.75
    assert public_share(Verdict("infra_error")) == -1  # unknown is the last choice, below a failure
    assert best(["a", "b", "c"], [(1.0, 0.2), (1.0, 0.3), (1.0, 0.3)]) == "b"
    assert best([], []) == ""


def job(folder: Path, **changes: Any) -> SearchConfig:
    return SearchConfig(output=str(folder / "out"), strategy="best_of_n", budget=4, **changes)


def test_the_prm_is_told_which_responses_were_cut_off(verifier: Any) -> None:
    class CutOff(Table):
        def generate(self, *arguments: Any, **named: Any) -> list[list[Completion]]:
            rows = super().generate(*arguments, **named)
            return [[replace(each, finish_reason="length") for each in row[:1]] + row[1:] for row in rows]

    class Told(Scores):
        def score_steps(
            self, prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool] = ()
        ) -> list[list[float]]:
            told.extend(zip(responses, finished))
            return super().score_steps(prompts, responses)

    told: list[tuple[str, bool]] = []
    used = Tools(CutOff(), verifier, Told(), SamplingParams(), 1)
    run_searches([problem()], strategy("best_of_n", SearchConfig(budget=3, by="prm")), used, 3)
    assert told == [(STREAM[0], False), (STREAM[1], True), (STREAM[2], True)]


def test_a_job_is_judged_by_hidden_tests_and_goes_on(tmp_path: Path, verifier: Any) -> None:
    # the public test of the second is wrong about what the hidden one wants
    problems = [problem("a"), problem("b", hidden="3\n"), problem("c", public="4\n", hidden="4\n")]
    used = tools(verifier)
    run = SearchRun(job(tmp_path), problems[:2])
    run.answer(used.generator, verifier, used.scorer, "PRM")
    file = tmp_path / "out/answers.jsonl"
    file.write_text(file.read_text() + '{"problem_id": "c", "resp')  # torn by a kill
    run = SearchRun(job(tmp_path), problems)
    used = tools(verifier)
    run.answer(used.generator, verifier, used.scorer, "PRM")
    assert [prompts for prompts, *_ in used.generator.calls] == [["Task c\n"]]  # type: ignore[attr-defined]
    results = run.judge(verifier)
    assert results["verdicts"] == {"a": "passed", "b": "wrong_answer", "c": "passed"}
    assert results["results"]["nemo_prm"]["pass@1"] == pytest.approx(2 / 3)
    assert (results["completions_per_problem"], results["num_unknown"]) == (4, 0)
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["problem_id"] for row in rows] == ["a", "b", "c"]
    assert rows[2]["candidates"][3] == {
        "response": STREAM[3],
        "num_tokens": len(STREAM[3]),
        "scores": [0.9, 0.8, 0.7],
        "public_tests": "passed",
        "feedback": None,
        "refines": None,
        "kept": None,
    }
    assert "pass@1 66.7 %" in run.as_table(results)
    with pytest.raises(ConfigError, match="holds a search with other settings"):
        SearchRun(job(tmp_path, by="prm"), problems)
    with pytest.raises(ConfigError, match="holds a search with other settings"):
        SearchRun(job(tmp_path, generator=GeneratorConfig(model="another")), problems)
    with pytest.raises(ConfigError, match="holds a search with other settings"):
        SearchRun(job(tmp_path, sandbox=SandboxConfig(time_limit_s=0.5)), problems)
    SearchRun(job(tmp_path, sandbox=SandboxConfig(workers=1)), problems)
    with pytest.raises(ConfigError, match="has an answer to another problem 'a'"):
        SearchRun(job(tmp_path), [problem("a", prompt="Do something else.\n"), *problems[1:]])
    used = tools(verifier)
    used.generator.name = "another table"  # type: ignore[misc]
    with pytest.raises(ConfigError, match="has answers of table, and these are of another table"):
        SearchRun(job(tmp_path), [*problems, problem("d")]).answer(used.generator, verifier, used.scorer, "PRM")
    with pytest.raises(ConfigError, match="has answers of PRM, and these are of another PRM"):
        used = tools(verifier)
        SearchRun(job(tmp_path), [*problems, problem("d")]).answer(
            used.generator, verifier, used.scorer, "another PRM"
        )
    assert len(file.read_text().splitlines()) == 3
