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
"""Labels one response: runs it, and searches it for its first bad line if it fails (PSGPO, Algorithm 1)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, replace
from typing import Mapping, NamedTuple, Sequence, Union

from nemo_prm.config import LabelConfig
from nemo_prm.data.feedback import feedback
from nemo_prm.data.splitters import splitter
from nemo_prm.data.steps import is_neutral, make_program
from nemo_prm.errors import ConfigError, RequestFailedError
from nemo_prm.labeling.batcher import Batcher
from nemo_prm.labeling.oracle import Answer, Oracle, Rules, Spent, Wave
from nemo_prm.labeling.priors import Outlook, Prior, Waves
from nemo_prm.labeling.search import PrefixSearch, halve, hard_labels, soft_labels
from nemo_prm.types import Cost, Derivation, LabelRow, Probe, Problem, Response, ResponseClass, Step, Verdict

GIVEN = "given"  # generator of rows that no generator had a part in
QUARANTINED = "the policy failed on it (quarantined)"
TOO_LONG = "the prompt fills the policy's context"
UNKNOWN = "the sandbox failed (infra_error)"
SEARCHES = ("auto", "cost_aware", "halve", "every")

Key = tuple[str, str]  # problem_id, response_id


class Skipped(NamedTuple):
    """A response that got no label, and why; a rerun tries it again."""

    problem_id: str
    response_id: str
    reason: str
    detail: str = ""


Outcome = Union[LabelRow, Skipped]


@dataclass(frozen=True)
class Work:
    """A response to label: a given one, or the n-th that is sampled for the problem."""

    problem: Problem
    response_id: str
    given: Response | None = None
    number: int = 0

    @property
    def key(self) -> Key:
        return self.problem.problem_id, self.response_id


def sampled(problems: Sequence[Problem], config: LabelConfig) -> list[Work]:
    """`responses_per_prompt` responses to each problem, called `<checkpoint>-<n>`, n from 0."""
    numbers = range(config.responses_per_prompt)
    return [Work(problem, f"{config.checkpoint}-{n}", None, n) for problem in problems for n in numbers]


def given(problems: Mapping[str, Problem], responses: Sequence[Response]) -> list[Work]:
    """Given responses; `problems` by id."""
    return [Work(problems[r.problem_id], r.response_id, r) for r in responses]


@dataclass(frozen=True)
class _Candidate:
    """A response that has been run."""

    response: Response
    verdict: Verdict
    steps: tuple[Step, ...]
    neutral: tuple[bool, ...]
    points: tuple[int, ...]  # prefixes that end with a step that is not neutral
    spent: Spent

    def prefix(self, num_steps: int) -> str:
        return self.response.text[: self.steps[num_steps - 1].end]

    def shared_points(self, text: str) -> int:
        """How many search points lie within what `text` and the response have in common from the start."""
        shared = len(os.path.commonprefix([text, self.response.text]))
        return sum(self.steps[point - 1].end <= shared for point in self.points)


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed below 2**63 for one purpose.

    A generator's completion depends on its prompt, its seed and its number alone (`nemo_prm.protocols.Generator`), so
    one seed per purpose is enough: labels depend neither on what shares a batch nor on where a run resumed.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def resolve(config: LabelConfig) -> LabelConfig:
    """The config with what depends on other settings filled in.

    `search` auto is every for thoughts, cost_aware otherwise; pass rates want all tests run.
    """
    if config.search == "auto":
        config = replace(config, search="every" if config.steps == "thoughts" else "cost_aware")
    if config.search == "every":
        config = replace(config, sandbox=replace(config.sandbox, stop_at_first_failure=False))
    return config


def check_config(config: LabelConfig) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: names the key and the value.
    """
    for name in ("responses_per_prompt", "completions", "first_wave", "searches_in_flight"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, found {getattr(config, name)}.")
    if config.seed < 0:
        raise ConfigError(f"seed must be at least 0, found {config.seed}.")
    for name in ("audit_share", "sequential_epsilon"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name} must lie in [0, 1], found {getattr(config, name)}.")
    if config.search not in SEARCHES:
        raise ConfigError(f"search must be one of {', '.join(SEARCHES)}, found {config.search!r}.")
    if config.soft_labels and config.sequential_epsilon:
        raise ConfigError("soft_labels draws all completions; sequential_epsilon must be 0 with it.")
    if config.search == "every" and (config.soft_labels or config.sequential_epsilon or config.audit_share):
        raise ConfigError(
            "search=every draws all completions of every step, and its labels are pass rates: leave out soft_labels, "
            "sequential_epsilon and audit_share."
        )


class Labeler:
    """Labels responses, as many at a time as coroutines call it."""

    def __init__(
        self,
        oracle: Oracle,
        config: LabelConfig,
        scorer: Batcher[tuple[str, str], list[float]] | None = None,
    ) -> None:
        """
        Args:
            oracle: draws, runs, and answers questions.
            config: resolved and checked.
            scorer: a process reward model: the scores, in [-1, 1], of the lines of a (prompt, response); they sharpen
                the choice of questions.
        """
        self._oracle, self._config, self._scorer = oracle, config, scorer
        self.split = splitter(config.steps)
        self._waves = Waves(config.first_wave, config.completions)

    async def label(self, work: Work, prior: Prior) -> Outcome:
        """Return the row of one response, or why it has none.

        Args:
            work: the response.
            prior: what earlier responses told.

        Raises:
            Stopped: the job is ending.
            GeneratorError: the policy is lost.
        """
        try:
            return await self._label(work, prior)
        except RequestFailedError as error:
            return Skipped(*work.key, QUARANTINED, str(error))

    async def _label(self, work: Work, prior: Prior) -> Outcome:
        problem, spent = work.problem, Spent()
        response = work.given or await self._sample(work, spent)
        if response is None:
            return Skipped(*work.key, TOO_LONG)
        verdict = await self._oracle.judge(problem, make_program(problem, response.text))
        spent.add(Spent(executions=1, seconds=verdict.seconds))
        if verdict.status == "infra_error":
            return Skipped(*work.key, UNKNOWN, verdict.message)
        steps = self.split(response.text, problem.language, problem.prompt)
        neutral = tuple(is_neutral(step.kind, self._config.neutral) for step in steps)
        points = tuple(i for i, skip in enumerate(neutral, start=1) if not skip)
        candidate = _Candidate(response, verdict, steps, neutral, points, spent)
        if self._config.search == "every":
            return await self._label_every(work, candidate)
        if verdict.passed:
            return self._row(work, candidate, "correct", len(steps), {}, [])
        outlook = Outlook(prior, len(points), self._waves, await self._score(work, candidate))
        search = PrefixSearch(points, halve if self._config.search == "halve" else outlook.split)
        probes: dict[int, Answer] = {}
        while (probe := search.next_probe) is not None:
            patience = outlook.patience(*search.state, self._config.sequential_epsilon)
            answer = await self._ask(work, candidate, probe, Rules(self._waves, patience, self._config.soft_labels))
            if answer.completable is None:
                return Skipped(*work.key, UNKNOWN, f"on completions of its first {probe} steps")
            probes[probe] = answer
            search.record(answer.completable)
            if answer.passing is not None:
                outlook.follow(candidate.shared_points(candidate.prefix(probe) + answer.passing))
        audit = await self._audit(work, candidate) if self._is_audited(work) else []
        row = self._row(work, candidate, "revised" if search.longest else "wrong", search.longest, probes, audit)
        if not self._config.keep_completions:
            return row
        derivations = (
            _derivation(problem, probe, text, verdict)
            for probe, answer in probes.items()
            for text, verdict in answer.results
            if verdict.status != "infra_error"
        )
        return replace(row, derivations=tuple(derivations))

    async def _label_every(self, work: Work, candidate: _Candidate) -> Outcome:
        """Label each step by the mean pass rate of what the policy makes of it (Math-Shepherd, CodePRM).

        The last step of a response that has ended is the whole of it, and is judged as it is.
        """
        whole = len(candidate.steps) if candidate.response.finish_reason == "stop" else 0
        points = [point for point in candidate.points if point != whole]
        rules = Rules(self._waves, self._waves.most, draw_all=True)
        answers = dict(zip(points, await asyncio.gather(*(self._ask(work, candidate, i, rules) for i in points))))
        results = {point: answer.results for point, answer in answers.items()}
        if whole in candidate.points:
            results[whole] = [("", candidate.verdict)]
        labels = [0.0] * len(candidate.steps)
        derivations: list[Derivation] = []
        for point, found in results.items():
            known = [(text, verdict) for text, verdict in found if verdict.status != "infra_error"]
            if found and not known:
                return Skipped(*work.key, UNKNOWN, f"on completions of its first {point} steps")
            derived = await asyncio.gather(
                *(self._derive(work, candidate, point, text, verdict) for text, verdict in known)
            )
            # a completion that begins anew was not run, and has failed; none at all: the prefix fills the context
            failed = answers[point].drawn - len(found) if point in answers else 0
            passed_share = sum(derivation.pass_rate for derivation in derived) / max(len(derived) + failed, 1)
            labels[point - 1] = 2 * passed_share - 1
            derivations += derived
        passed = any(answer.passed for answer in answers.values())
        response_class: ResponseClass = "correct" if candidate.verdict.passed else "revised" if passed else "wrong"
        row = self._row(work, candidate, response_class, 0, answers, [])
        return replace(row, labels=tuple(labels), derivations=tuple(derivations))

    async def _derive(
        self, work: Work, candidate: _Candidate, num_steps: int, completion: str, verdict: Verdict
    ) -> Derivation:
        """A program with its pass rate, and the feedback of the public tests where there are some."""
        problem, derivation = work.problem, _derivation(work.problem, num_steps, completion, verdict)
        if not problem.public_tests:
            return derivation
        program = make_program(problem, candidate.prefix(num_steps) + completion)
        shown = await self._oracle.judge(problem, program, public=True)
        candidate.spent.add(Spent(executions=1, seconds=shown.seconds))
        return replace(derivation, feedback=feedback(problem, shown, public=True))

    async def _sample(self, work: Work, spent: Spent) -> Response | None:
        """Draw the response; all of a problem are drawn in one call."""
        config = self._config
        wave = Wave(work.problem.prompt, derive_seed(config.seed, "responses"), 0, config.responses_per_prompt)
        drawn = await self._oracle.draw(wave)
        if drawn is None:
            return None
        completion, seconds, _ = drawn[work.number]
        spent.add(Spent(1, completion.num_tokens, 0, seconds))
        return Response(*work.key, completion.text, config.checkpoint, completion.num_tokens, completion.finish_reason)

    async def _score(self, work: Work, candidate: _Candidate) -> list[float] | None:
        """The process reward model's scores of the search points, where there is one."""
        if self._scorer is None:
            return None
        scores = await self._scorer.ask((work.problem.prompt, candidate.response.text))
        # Lines that end in one token have one score together; then it is not known whose they are.
        known = len(scores) == len(candidate.steps)
        return [scores[point - 1] for point in candidate.points] if known else None

    async def _ask(self, work: Work, candidate: _Candidate, num_steps: int, rules: Rules) -> Answer:
        prefix = candidate.prefix(num_steps)
        return await self._oracle.ask(work.problem, prefix, derive_seed(self._config.seed, "completions"), rules)

    def _is_audited(self, work: Work) -> bool:
        """By a hash of its name: the same responses are audited whatever else the job does."""
        chance = int.from_bytes(hashlib.sha256("/".join(work.key).encode()).digest()[:8], "big") / 2**64
        return chance < self._config.audit_share

    async def _audit(self, work: Work, candidate: _Candidate) -> list[Probe]:
        """Ask about every search point with all K completions; decides nothing."""
        rules = Rules(self._waves, self._waves.most, draw_all=True)
        try:
            answers = await asyncio.gather(*(self._ask(work, candidate, point, rules) for point in candidate.points))
        except RequestFailedError:  # the label stands without its audit
            return []
        if any(answer.completable is None for answer in answers):
            return []
        return [Probe(i, answer.drawn, answer.passed) for i, answer in zip(candidate.points, answers)]

    def _row(
        self,
        work: Work,
        candidate: _Candidate,
        response_class: ResponseClass,
        longest: int,
        answers: Mapping[int, Answer],
        audit: Sequence[Probe],
    ) -> LabelRow:
        problem, response, config = work.problem, candidate.response, self._config
        if config.soft_labels and response_class == "revised":
            shares = {i: answer.passed / max(answer.drawn - answer.unknown, 1) for i, answer in answers.items()}
            labels = soft_labels(candidate.neutral, longest, shares)
        else:
            labels = hard_labels(candidate.neutral, longest)
        spent = candidate.spent
        for answer in answers.values():
            spent.add(answer.spent)
        return LabelRow(
            problem_id=problem.problem_id,
            response_id=work.response_id,
            checkpoint=response.checkpoint,
            prompt=problem.prompt,
            response=response.text,
            steps=candidate.steps,
            labels=labels,
            response_class=response_class,
            probes=tuple(Probe(i, answer.drawn, answer.passed) for i, answer in answers.items()),
            audit=tuple(audit),
            cost=Cost(spent.completions, spent.tokens, spent.executions, round(spent.seconds, 6)),
            seed=config.seed,
            generator=self._oracle.generator_name if spent.completions or answers else GIVEN,
            sandbox=self._oracle.sandbox_name,
            difficulty=problem.difficulty,
            verdict=candidate.verdict,
            finish_reason=response.finish_reason,
        )


def _derivation(problem: Problem, num_steps: int, completion: str, verdict: Verdict) -> Derivation:
    return Derivation(num_steps, completion, verdict.pass_rate, feedback(problem, verdict))
