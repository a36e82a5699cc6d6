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
"""Labels responses: samples them, runs them, and searches the failed ones for their first bad line, many in step."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Collection, Iterator, Mapping, NamedTuple, Sequence, Union

from nemo_prm.config import LabelConfig
from nemo_prm.data.steps import is_neutral, make_program, split_lines
from nemo_prm.errors import ConfigError
from nemo_prm.labeling.search import PrefixSearch, hard_labels, soft_labels
from nemo_prm.labeling.trials import Spent, Trial, advance, derive_seed, generate_fitting
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import (
    Completion,
    Cost,
    LabelRow,
    Probe,
    Problem,
    Response,
    ResponseClass,
    SamplingParams,
    Step,
    Verdict,
)

CHUNK_RESPONSES = 512  # searched in step: enough to fill batches to the end, few enough that rows appear early
GIVEN = "given"  # generator of rows that no generator had a part in

Key = tuple[str, str]  # problem_id, response_id


class Skipped(NamedTuple):
    """A response that got no label, and why."""

    problem_id: str
    response_id: str
    reason: str


Outcome = Union[LabelRow, Skipped]


@dataclass
class _Candidate:
    """A response on its way to a label."""

    problem: Problem
    response: Response
    verdict: Verdict
    spent: Spent
    steps: tuple[Step, ...]
    neutral: tuple[bool, ...]
    search: PrefixSearch
    probes: list[Probe] = field(default_factory=list)


class Labeler:
    """Labels responses with a policy and a verifier (PSGPO, arXiv 2410.17621, Algorithm 1).

    Its work goes chunk by chunk. Within a chunk all searches advance in waves: each wave asks the generator about the
    next probe of every search that is still open, in one call per number of completions, and each row is handed out
    as soon as its own search is over.
    """

    def __init__(self, generator: Generator, verifier: Verifier, config: LabelConfig) -> None:
        for name in ("responses_per_prompt", "completions"):
            if getattr(config, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(config, name)}.")
        self.generator, self.verifier, self.config = generator, verifier, config
        self.params = SamplingParams(**asdict(config.sampling))

    def label_sampled(self, problems: Sequence[Problem], completed: Collection[Key]) -> Iterator[Outcome]:
        """Sample `responses_per_prompt` responses to each problem and label those that are not completed yet.

        They are called `<checkpoint>-<n>`, n from 0; the same seed gives the same responses, so a job that is resumed
        goes on where it stood.
        """
        count = self.config.responses_per_prompt
        names = [f"{self.config.checkpoint}-{n}" for n in range(count)]
        open_problems = [p for p in problems if any((p.problem_id, name) not in completed for name in names)]
        size = max(1, CHUNK_RESPONSES // count)
        for start in range(0, len(open_problems), size):
            chunk = open_problems[start : start + size]
            started = time.monotonic()
            prompts = [problem.prompt for problem in chunk]
            seed = derive_seed(self.config.seed, "responses")
            drawn, refused = generate_fitting(self.generator, prompts, count, self.params, seed)
            seconds = (time.monotonic() - started) / (len(chunk) * count)
            work = []
            for i, problem in enumerate(chunk):
                todo = [n for n in range(count) if (problem.problem_id, names[n]) not in completed]
                for n in todo:
                    if i in refused:
                        yield Skipped(problem.problem_id, names[n], "the prompt fills the policy's context")
                        continue
                    completion: Completion = drawn[i][n]
                    response = Response(
                        problem.problem_id,
                        names[n],
                        completion.text,
                        self.config.checkpoint,
                        completion.num_tokens,
                        completion.finish_reason,
                    )
                    spent = Spent()
                    spent.add_completions([completion], seconds)
                    work.append((problem, response, spent))
            yield from self._label_chunk(work)

    def label_given(
        self, problems: Mapping[str, Problem], responses: Sequence[Response], completed: Collection[Key]
    ) -> Iterator[Outcome]:
        """Label given responses (`problems` by id); the generator is asked only where one of them fails."""
        todo = [r for r in responses if (r.problem_id, r.response_id) not in completed]
        for start in range(0, len(todo), CHUNK_RESPONSES):
            chunk = todo[start : start + CHUNK_RESPONSES]
            yield from self._label_chunk([(problems[r.problem_id], r, Spent()) for r in chunk])

    def _label_chunk(self, work: Sequence[tuple[Problem, Response, Spent]]) -> Iterator[Outcome]:
        verdicts = self.verifier.verify_many([(problem, make_program(problem, r.text)) for problem, r, _ in work])
        searching: list[_Candidate] = []
        for (problem, response, spent), verdict in zip(work, verdicts):
            spent.executions += 1
            spent.seconds += verdict.seconds
            if verdict.status == "infra_error":
                yield self._unknown(response)
                continue
            candidate = self._candidate(problem, response, verdict, spent)
            if verdict.passed:
                yield self._row(candidate, "correct")
            else:
                searching.append(candidate)
        yield from self._search(searching)

    def _search(self, candidates: Sequence[_Candidate]) -> Iterator[Outcome]:
        trials: dict[tuple[str, str], Trial] = {}
        active = list(candidates)
        while active:
            still_active, asked = [], []
            for candidate in active:
                probe = candidate.search.next_probe
                if probe is None:
                    yield self._row(candidate, "revised" if candidate.search.longest else "wrong")
                    continue
                prefix = candidate.response.text[: candidate.steps[probe - 1].end]
                new = Trial(candidate.problem, prefix, candidate.spent)
                asked.append(trials.setdefault((candidate.problem.problem_id, prefix), new))
                still_active.append(candidate)
            active = still_active
            pending = list({id(trial): trial for trial in asked if not trial.done}.values())
            if pending:
                advance(
                    pending,
                    self.generator,
                    self.verifier,
                    self.params,
                    self.config.seed,
                    self.config.completions,
                    draw_all=self.config.soft_labels,
                )
            unknown = []
            for candidate, trial in zip(active, asked):
                probe = candidate.search.next_probe
                if not trial.done or probe is None:
                    continue
                if trial.passed == 0 and trial.unknown > 0:
                    unknown.append(candidate)
                    continue
                candidate.probes.append(Probe(probe, trial.drawn, trial.passed))
                candidate.search.record(trial.passed > 0)
            for candidate in unknown:
                yield self._unknown(candidate.response)
            active = [candidate for candidate in active if not any(candidate is other for other in unknown)]

    def _candidate(self, problem: Problem, response: Response, verdict: Verdict, spent: Spent) -> _Candidate:
        steps = split_lines(response.text, problem.language)
        neutral = tuple(is_neutral(step.kind, self.config.neutral) for step in steps)
        points = [i for i, skip in enumerate(neutral, start=1) if not skip]
        return _Candidate(problem, response, verdict, spent, steps, neutral, PrefixSearch(points))

    def _unknown(self, response: Response) -> Skipped:
        return Skipped(response.problem_id, response.response_id, "the sandbox failed (infra_error)")

    def _row(self, candidate: _Candidate, response_class: ResponseClass) -> LabelRow:
        longest = len(candidate.steps) if response_class == "correct" else candidate.search.longest
        if self.config.soft_labels and response_class == "revised":
            shares = {p.num_steps: p.num_passed / max(p.num_completions, 1) for p in candidate.probes}
            labels = soft_labels(candidate.neutral, longest, shares)
        else:
            labels = hard_labels(candidate.neutral, longest)
        problem, response, spent = candidate.problem, candidate.response, candidate.spent
        return LabelRow(
            problem_id=problem.problem_id,
            response_id=response.response_id,
            checkpoint=response.checkpoint,
            prompt=problem.prompt,
            response=response.text,
            steps=candidate.steps,
            labels=labels,
            response_class=response_class,
            probes=tuple(candidate.probes),
            cost=Cost(spent.completions, spent.tokens, spent.executions, round(spent.seconds, 6)),
            seed=self.config.seed,
            generator=self.generator.name if spent.completions or candidate.probes else GIVEN,
            sandbox=self.verifier.name,
            difficulty=problem.difficulty,
            verdict=candidate.verdict,
            finish_reason=response.finish_reason,
        )
