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
"""A search job: answers first, by what is public; when all are there, the hidden tests judge them."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Sequence

from tqdm import tqdm

from nemo_prm.config import SearchConfig
from nemo_prm.data.appendonly import AppendOnlyFile
from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.data.problems import problem_to_json
from nemo_prm.data.steps import make_program
from nemo_prm.data.thoughts import check_inputs, with_thoughts
from nemo_prm.errors import ConfigError
from nemo_prm.evaluation.evaluate import estimates_as_json
from nemo_prm.evaluation.pass_at_k import Counts, estimate
from nemo_prm.metrics import finite_or_null
from nemo_prm.protocols import Generator, StepScorer, Verifier
from nemo_prm.search.driver import Answer, Candidate, Tools, public_view, run_searches
from nemo_prm.search.strategies import strategy
from nemo_prm.types import Problem

# Options that change no answer.
WHERE_IT_RUNS = ("generator", "reward", "sandbox", "output", "limit", "searches_in_flight")


class SearchRun:
    """Files of `output`: answers.jsonl, an answer a line with its trace and cost, written as searches end, so that a
    rerun goes on from there; settings.json; results.json, when the answers are judged.
    """

    def __init__(self, config: SearchConfig, problems: Sequence[Problem]) -> None:
        """
        Args:
            config: of the job.
            problems: to answer.

        Raises:
            ConfigError: no such strategy, order or aggregate; or `output` holds a job with other settings.
        """
        self.config, self.problems = config, problems
        if config.think:
            self.problems = problems = [with_thoughts(problem) for problem in problems]
        self.strategy, self.inputs = strategy(config.strategy, config), check_inputs(config.inputs)
        self.output = Path(config.output)
        self.output.mkdir(parents=True, exist_ok=True)
        settings = asdict(config)
        for name in WHERE_IT_RUNS:
            del settings[name]
        settings |= config.sandbox.limits()
        settings["policy"] = [config.generator.kind, config.generator.model]
        known = self.output / "settings.json"
        with closing(self._open()) as file:
            answers = [_answer(json.loads(line)) for _, line in file.lines()]
        if answers and known.exists() and read_json(known) != json.loads(json.dumps(settings)):
            raise ConfigError(f"{self.output} holds a search with other settings ({known}): choose another output")
        write_json(known, settings)
        self.answers = {answer.problem_id: answer for answer in answers}
        self._digests = {problem.problem_id: _digest(problem) for problem in problems}
        for name, digest in self._digests.items():
            if name in self.answers and self.answers[name].problem_sha256 != digest:
                raise ConfigError(f"{self.output} has an answer to another problem {name!r}: choose another output")

    def _open(self) -> AppendOnlyFile:
        return AppendOnlyFile(self.output / "answers.jsonl", "answers", b'{"problem_id": ')

    def answer(self, generator: Generator, verifier: Verifier, scorer: StepScorer | None, prm: str = "") -> None:
        """Search for the answers that are missing; see `run_searches` for what may go wrong.

        Args:
            generator: of completions.
            verifier: of programs, with the public tests.
            scorer: the PRM, for strategies that need one.
            prm: its name.
        """
        missing = [problem for problem in self.problems if problem.problem_id not in self.answers]
        tools = Tools(generator, verifier, scorer, self.config.sampling.as_params(), self.config.seed, self.inputs)
        done = len(self.problems) - len(missing)
        with (
            tqdm(total=len(self.problems), initial=done, desc="search", unit="problem", file=sys.stderr) as progress,
            closing(self._open()) as file,
        ):

            def keep(answer: Answer) -> None:
                answer.generator, answer.prm = generator.name, prm
                answer.problem_sha256 = self._digests[answer.problem_id]
                other = next(iter(self.answers.values()), answer)  # all have the same
                for theirs, ours in ((other.generator, answer.generator), (other.prm, answer.prm)):
                    if theirs != ours:
                        raise ConfigError(
                            f"{self.output} has answers of {theirs}, and these are of {ours}: choose another output"
                        )
                file.append(json.dumps(finite_or_null(asdict(answer))).encode())
                self.answers[answer.problem_id] = answer
                progress.update()

            run_searches(missing, self.strategy, tools, self.config.budget, self.config.searches_in_flight, keep)

    def judge(self, verifier: Verifier) -> dict[str, Any]:
        """Run the hidden tests on the answers, and write results.json.

        Returns:
            Its content: results.nemo_prm as that of `evaluate`; by_difficulty; cost per problem; num_unknown answers.
        """
        answers = [self.answers[problem.problem_id] for problem in self.problems]
        jobs = [(problem, make_program(problem, answer.response)) for problem, answer in zip(self.problems, answers)]
        verdicts = verifier.verify_many(jobs)
        groups: dict[str, list[Counts]] = {}
        for problem, verdict in zip(self.problems, verdicts):
            known = verdict.status != "infra_error"
            groups.setdefault(problem.difficulty or "unrated", []).append(Counts(int(known), int(verdict.passed)))

        def pass_at_1(counts: Sequence[Counts]) -> dict[str, Any]:
            return estimates_as_json({1: estimate(counts, 1, self.config.seed)})

        every = [entry for entries in groups.values() for entry in entries]
        content = {
            "results": {"nemo_prm": pass_at_1(every)},
            "by_difficulty": {name: pass_at_1(entries) for name, entries in groups.items()},
            "completions_per_problem": sum(answer.completions for answer in answers) / len(answers),
            "tokens_per_problem": sum(answer.tokens for answer in answers) / len(answers),
            "num_problems": len(answers),
            "num_unknown": sum(verdict.status == "infra_error" for verdict in verdicts),
            "verdicts": {problem.problem_id: verdict.status for problem, verdict in zip(self.problems, verdicts)},
        }
        content = dict(finite_or_null(content))
        write_json(self.output / "results.json", content)
        return content

    def as_table(self, results: dict[str, Any]) -> str:
        """A line for the terminal."""
        found = results["results"]["nemo_prm"]
        if found["pass@1"] is None:
            return "pass@1 is unknown: no answer has a verdict"
        low, high = found["pass@1_ci"]
        return (
            f"{self.config.strategy}: pass@1 {100 * found['pass@1']:.1f} % (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f}), {results['completions_per_problem']:.1f} completions and "
            f"{results['tokens_per_problem']:.0f} tokens a problem"
        )


def _digest(problem: Problem) -> str:
    """Of what a search sees of a problem."""
    return hashlib.sha256(json.dumps(problem_to_json(public_view(problem))).encode()).hexdigest()


def _answer(row: dict[str, Any]) -> Answer:
    candidates = [Candidate(**candidate) for candidate in row.pop("candidates")]
    return Answer(**row, candidates=candidates)
