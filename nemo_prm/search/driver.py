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

from nemo_prm.data.feedback import feedback
from nemo_prm.data.fitting import generate_fitting
from nemo_prm.data.steps import make_program
from nemo_prm.data.thoughts import PRMInput, refine_hint, scored_texts
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.protocols import Generator, StepScorer, Verifier
from nemo_prm.search.moves import Assess, Assessment, Draw, Move, PublicProblem, Run, Score, Search, Strategy
from nemo_prm.types import Problem, SamplingParams, Verdict


class Tools(NamedTuple):
    """What searches may use; `scorer` is None where no PRM is served, and reads `inputs`."""

    generator: Generator
    verifier: Verifier
    scorer: StepScorer | None
    params: SamplingParams
    seed: int
    inputs: PRMInput = "lines"


@dataclass
class Candidate:
    """A response that was drawn, and what became known of it.

    `scores` are those of its lines or thoughts, `public_tests` is the verdict's status. `refines` is the number, among
    the candidates, of the response that it was to better, `kept` the thoughts that it has from there.
    """

    response: str
    num_tokens: int
    scores: list[float] | None = None
    public_tests: str | None = None
    feedback: str | None = None
    refines: int | None = None
    kept: int | None = None


@dataclass
class Answer:
    """What a search ended with, and what it cost; an empty `response` where the prompt fills the policy's context."""

    problem_id: str
    response: str = ""
    generator: str = ""
    prm: str = ""
    problem_sha256: str = ""
    prompt: str = ""
    completions: int = 0
    tokens: int = 0
    candidates: list[Candidate] = field(default_factory=list)


def public_view(problem: Problem) -> Problem:
    """The problem as a search may know it: without hidden tests, and without keys of the file that we do not know,
    among which may be solutions."""
    return replace(problem, tests=(), extra={})


class _PublicTests:
    """The only part of a search that holds whole problems, as verifier servers know them; it runs public tests."""

    def __init__(self, problems: Sequence[Problem], verifier: Verifier) -> None:
        self._problems = {problem.problem_id: problem for problem in problems}
        self._verifier = verifier

    def run(self, jobs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on (problem_id, response)."""
        asked = [(self._problems[name], response) for name, response in jobs]
        futures = [
            self._verifier.submit(problem, make_program(problem, response), problem.public_tests)
            for problem, response in asked
        ]
        return [future.result() for future in futures]


class _Running:
    """A search under way."""

    def __init__(self, problem: Problem, search: Search) -> None:
        self.problem, self.search = problem, search
        self.answer = Answer(problem.problem_id, prompt=problem.prompt)
        self.drawn: dict[str, int] = defaultdict(int)  # completions by what was continued
        self.known: dict[tuple[str, str], Any] = {}  # results of Score and Run by response
        self.cut_off: set[str] = set()  # responses that the policy did not end
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
    public = _PublicTests(problems, tools.verifier)
    while True:
        while len(running) < at_once and (problem := next(waiting, None)) is not None:
            view = public_view(problem)
            known = PublicProblem(view.problem_id, view.prompt, view.language, len(view.public_tests))
            running.append(_Running(view, strategy(known)))
        if not running:
            break
        if wanting := [each for each in running if isinstance(each.move, Draw)]:
            _draw(wanting, tools, budget)
        if wanting := [each for each in running if isinstance(each.move, Score)]:
            _score(wanting, tools)
        if wanting := [each for each in running if isinstance(each.move, Run)]:
            _run(wanting, public)
        if wanting := [each for each in running if isinstance(each.move, Assess)]:
            _assess(wanting, tools, public)
        for each in [each for each in running if each.move is None]:
            running.remove(each)
            answers[each.problem.problem_id] = each.answer
            on_answer(each.answer)
    return [answers[problem.problem_id] for problem in problems]


def _draw(wanting: Sequence[_Running], tools: Tools, budget: int) -> None:
    groups: dict[tuple[int, int], list[tuple[_Running, str, str]]] = defaultdict(list)
    results: dict[int, dict[str, list[str]]] = {id(each): {} for each in wanting}
    for each in wanting:
        move = each.move
        assert isinstance(move, Draw)
        wanted = each.answer.completions + move.n * len(move.prefixes)
        if wanted > budget:
            raise DataError(f"a search drew {wanted} completions, and its budget is {budget}")
        hint = _hint(each, move)
        for prefix in move.prefixes:
            prompt = f"{each.problem.prompt}{hint}{prefix}"
            groups[move.n, each.drawn[prompt]].append((each, prompt, prefix))
            each.drawn[prompt] += move.n
    for (n, first), rows in groups.items():
        drawn, _ = generate_fitting(
            tools.generator, [prompt for _, prompt, _ in rows], n, tools.params, tools.seed, first
        )
        for index, (each, _, prefix) in enumerate(rows):
            completions = drawn.get(index, [])
            responses = [prefix + completion.text for completion in completions]
            each.answer.completions += len(completions)
            each.answer.tokens += sum(completion.num_tokens for completion in completions)
            each.cut_off |= {r for r, c in zip(responses, completions) if c.finish_reason == "length"}
            origin = _origin(each)
            each.answer.candidates += [
                replace(origin, response=response, num_tokens=completion.num_tokens)
                for response, completion in zip(responses, completions)
            ]
            results[id(each)][prefix] = responses
    for each in wanting:
        move = each.move
        assert isinstance(move, Draw)
        each.advance([results[id(each)][prefix] for prefix in move.prefixes])


def _hint(each: _Running, move: Draw) -> str:
    """What the policy is told of the response that it is to better."""
    if move.refine is None:
        return ""
    response, thought = move.refine
    found: Assessment = each.known["assess", response]
    start = found.ends[thought - 1] if thought else 0
    if move.prefixes != (response[:start],):
        raise DataError("a refinement goes on from the thoughts before the one that it replaces")
    return refine_hint(response[start : found.ends[thought]], found.feedback)


def _origin(each: _Running) -> Candidate:
    """What is known of a candidate before it is drawn."""
    move = each.move
    assert isinstance(move, Draw)
    if move.refine is None:
        return Candidate("", 0)
    refined = [candidate.response for candidate in each.answer.candidates].index(move.refine.response)
    return Candidate("", 0, refines=refined, kept=move.refine.thought)


def _score(wanting: Sequence[_Running], tools: Tools) -> None:
    def ask(jobs: Sequence[tuple[_Running, str]]) -> list[list[float]]:
        texts = [(each.problem.prompt, response) for each, response in jobs]
        return _scores(tools, texts, [response not in each.cut_off for each, response in jobs])

    for each, scores in _answered(wanting, "score", ask):
        for candidate in each.answer.candidates:
            candidate.scores = scores.get(candidate.response, candidate.scores)


def _run(wanting: Sequence[_Running], public: _PublicTests) -> None:
    for each in wanting:
        if not each.problem.public_tests:
            raise ConfigError(f"problem {each.problem.problem_id!r} has no public tests: set by=prm")

    def ask(jobs: Sequence[tuple[_Running, str]]) -> list[Verdict]:
        return public.run([(each.problem.problem_id, response) for each, response in jobs])

    for each, verdicts in _answered(wanting, "run", ask):
        for candidate in each.answer.candidates:
            if candidate.response in verdicts:
                candidate.public_tests = verdicts[candidate.response].status


def _assess(wanting: Sequence[_Running], tools: Tools, public: _PublicTests) -> None:
    inputs = tools.inputs
    if inputs == "lines":
        raise ConfigError("the strategy wants scores of thoughts: set inputs to what the PRM was trained to read")

    def ask(jobs: Sequence[tuple[_Running, str]]) -> list[Assessment]:
        tested = [(each.problem.problem_id, response) for each, response in jobs if each.problem.public_tests]
        verdicts = dict(zip(tested, public.run(tested)))
        found = []
        for each, response in jobs:
            verdict = verdicts.get((each.problem.problem_id, response))
            told = "" if verdict is None else feedback(each.problem, verdict, public=True)
            scored = scored_texts(inputs, response, told, each.problem.language, each.problem.prompt)
            found.append((verdict, told, *scored))
        texts = [(each.problem.prompt, text) for (each, _), (*_, row) in zip(jobs, found) for text in row]
        scores = iter(_scores(tools, texts))
        return [
            Assessment(tuple(step.end for step in thoughts), tuple(_last(next(scores)) for _ in row), verdict, told)
            for verdict, told, thoughts, row in found
        ]

    for each, assessments in _answered(wanting, "assess", ask):
        for candidate in each.answer.candidates:
            if assessment := assessments.get(candidate.response):
                candidate.scores, candidate.feedback = list(assessment.scores), assessment.feedback
                candidate.public_tests = assessment.verdict.status if assessment.verdict else None


def _last(scores: Sequence[float]) -> float:
    """The score of a text; of one that does not fit the PRM's context, the lowest."""
    return scores[-1] if scores else -1.0


def _scores(tools: Tools, texts: Sequence[tuple[str, str]], finished: Sequence[bool] = ()) -> list[list[float]]:
    """The PRM's scores of the lines of (prompt, response); all have ended unless `finished` says otherwise."""
    cut_off = () if all(finished) else (finished,)  # a scorer need not know of these
    if tools.scorer is None:
        raise ConfigError("the strategy wants a PRM: start serve_reward, and set reward.url")
    return tools.scorer.score_steps([prompt for prompt, _ in texts], [response for _, response in texts], *cut_off)


def _answered(
    wanting: Sequence[_Running], what: str, ask: Callable[[Sequence[tuple[_Running, str]]], Sequence[Any]]
) -> Iterator[tuple[_Running, dict[str, Any]]]:
    """Ask about the responses that are not known yet, in one batch, and let the searches go on."""
    jobs: dict[tuple[int, str], tuple[_Running, str]] = {}
    for each in wanting:
        assert isinstance(each.move, (Score, Run, Assess))
        for response in each.move.responses:
            if (what, response) not in each.known:
                jobs[id(each), response] = (each, response)
    results = ask(list(jobs.values())) if jobs else []
    for (each, response), result in zip(jobs.values(), results):
        each.known[what, response] = result
    for each in wanting:
        assert isinstance(each.move, (Score, Run, Assess))
        found = [each.known[what, response] for response in each.move.responses]
        yield each, dict(zip(each.move.responses, found))
        each.advance(found)
