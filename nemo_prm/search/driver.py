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
"""Runs the searches of many problems at once: what they ask for goes to policy, PRM and sandbox in batches."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from nemo_prm.data.steps import make_program
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.oracle import generate_fitting
from nemo_prm.protocols import Generator, StepScorer, Verifier
from nemo_prm.search.moves import Draw, Move, PublicProblem, Run, Score, Search, Strategy
from nemo_prm.types import Problem, SamplingParams, Verdict


class Tools(NamedTuple):
    """What searches may use; `scorer` is None where no PRM is served."""

    generator: Generator
    verifier: Verifier
    scorer: StepScorer | None
    params: SamplingParams
    seed: int


@dataclass
class Candidate:
    """A response that was drawn, and what became known of it."""

    response: str
    num_tokens: int
    scores: list[float] | None = None
    public_tests: str | None = None  # the verdict's status


@dataclass
class Answer:
    """What a search ended with, and what it cost; an empty `response` where the prompt fills the policy's context."""

    problem_id: str
    response: str = ""
    completions: int = 0
    tokens: int = 0
    candidates: list[Candidate] = field(default_factory=list)


def public_view(problem: Problem) -> Problem:
    """The problem as a search may know it: its tests are the public ones, and keys of the file that we do not know,
    among which may be solutions, are gone."""
    return replace(problem, tests=problem.public_tests, public_tests=(), extra={})


class _Running:
    """A search under way."""

    def __init__(self, problem: Problem, search: Search) -> None:
        self.problem, self.search = problem, search
        self.answer = Answer(problem.problem_id)
        self.drawn: dict[str, int] = defaultdict(int)  # completions by prefix
        self.known: dict[tuple[str, str], Any] = {}  # results of Score and Run by response
        self.move: Move | None = None
        self.advance(None)

    def advance(self, result: Any) -> None:
        try:
            self.move = self.search.send(result)
        except StopIteration as end:
            self.move, self.answer.response = None, end.value


def run_searches(
    problems: Sequence[Problem],
    strategy: Strategy,
    tools: Tools,
    budget: int,
    at_once: int = 64,
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Search for an answer to every problem.

    Args:
        problems: with their hidden tests, which stay here.
        strategy: what to do for each.
        tools: policy, PRM, sandbox.
        budget: completions that a search may draw.
        at_once: searches under way.
        on_answer: called with each answer when its search has ended.

    Raises:
        ConfigError: the strategy wants a PRM or public tests where there are none.
        DataError: the strategy draws more than its budget, which is a mistake in it.
        GeneratorError, ServerError: policy or PRM do not answer.
    """
    waiting = iter(problems)
    running: list[_Running] = []
    answers: dict[str, Answer] = {}
    while True:
        while len(running) < at_once and (problem := next(waiting, None)) is not None:
            view = public_view(problem)
            known = PublicProblem(view.problem_id, view.prompt, view.language, len(view.tests))
            running.append(_Running(view, strategy(known)))
        if not running:
            break
        for kind, act in ((Draw, _draw), (Score, _score), (Run, _run)):
            wanting = [each for each in running if isinstance(each.move, kind)]
            if wanting:
                act(wanting, tools, budget)
        for each in [each for each in running if each.move is None]:
            running.remove(each)
            answers[each.problem.problem_id] = each.answer
            on_answer(each.answer)
    return [answers[problem.problem_id] for problem in problems]


def _draw(wanting: Sequence[_Running], tools: Tools, budget: int) -> None:
    groups: dict[tuple[int, int], list[tuple[_Running, str]]] = defaultdict(list)
    results: dict[int, dict[str, list[str]]] = {id(each): {} for each in wanting}
    for each in wanting:
        move = each.move
        assert isinstance(move, Draw)
        each.answer.completions += move.n * len(move.prefixes)
        if each.answer.completions > budget:
            raise DataError(f"a search drew {each.answer.completions} completions, and its budget is {budget}")
        for prefix in move.prefixes:
            groups[move.n, each.drawn[prefix]].append((each, prefix))
            each.drawn[prefix] += move.n
    for (n, first), rows in groups.items():
        prompts = [each.problem.prompt + prefix for each, prefix in rows]
        drawn, _ = generate_fitting(tools.generator, prompts, n, tools.params, tools.seed, first)
        for index, (each, prefix) in enumerate(rows):
            completions = drawn.get(index, [])
            responses = [prefix + completion.text for completion in completions]
            each.answer.tokens += sum(completion.num_tokens for completion in completions)
            each.answer.candidates += [
                Candidate(response, completion.num_tokens) for response, completion in zip(responses, completions)
            ]
            results[id(each)][prefix] = responses
    for each in wanting:
        move = each.move
        assert isinstance(move, Draw)
        each.advance([results[id(each)][prefix] for prefix in move.prefixes])


def _score(wanting: Sequence[_Running], tools: Tools, budget: int) -> None:
    if tools.scorer is None:
        raise ConfigError("the strategy wants a PRM: start serve_reward, and set reward.url")
    scorer = tools.scorer

    def ask(jobs: Sequence[tuple[Problem, str]]) -> list[list[float]]:
        return scorer.score_steps([problem.prompt for problem, _ in jobs], [response for _, response in jobs])

    for each, scores in _answered(wanting, "score", ask):
        for candidate in each.answer.candidates:
            candidate.scores = scores.get(candidate.response, candidate.scores)


def _run(wanting: Sequence[_Running], tools: Tools, budget: int) -> None:
    for each in wanting:
        if not each.problem.tests:
            raise ConfigError(f"problem {each.problem.problem_id!r} has no public tests: set by=prm")

    def ask(jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return tools.verifier.verify_many([(problem, make_program(problem, text)) for problem, text in jobs])

    for each, verdicts in _answered(wanting, "run", ask):
        for candidate in each.answer.candidates:
            if candidate.response in verdicts:
                candidate.public_tests = verdicts[candidate.response].status


def _answered(
    wanting: Sequence[_Running], what: str, ask: Callable[[Sequence[tuple[Problem, str]]], Sequence[Any]]
) -> Iterator[tuple[_Running, dict[str, Any]]]:
    """Ask about the responses that are not known yet, in one batch, and let the searches go on."""
    jobs: dict[tuple[int, str], tuple[_Running, str]] = {}
    for each in wanting:
        assert isinstance(each.move, (Score, Run))
        for response in each.move.responses:
            if (what, response) not in each.known:
                jobs[id(each), response] = (each, response)
    results = ask([(each.problem, response) for each, response in jobs.values()]) if jobs else []
    for (each, response), result in zip(jobs.values(), results):
        each.known[what, response] = result
    for each in wanting:
        assert isinstance(each.move, (Score, Run))
        found = [each.known[what, response] for response in each.move.responses]
        yield each, dict(zip(each.move.responses, found))
        each.advance(found)
