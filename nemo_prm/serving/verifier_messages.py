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
"""Requests to the `verifier` model and its verdicts, as Python values and as tensors [B, 1]; what a model may be told.

A client that has the problem proves it with `problem_digest`. It gets the whole verdict, and a refusal where the
server's problem of that name is another one: a verdict on other tests would be a wrong label.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from nemo_prm.data.feedback import feedback
from nemo_prm.data.problems import problem_to_json
from nemo_prm.data.rows import verdict_to_json
from nemo_prm.data.steps import make_program
from nemo_prm.errors import RequestError
from nemo_prm.serving.wire import Arrays, decode_text, encode_text
from nemo_prm.types import Problem, Verdict


class Job(NamedTuple):
    """A program to judge by the problem's tests, or by its public ones; `known`: the client has the problem."""

    problem: Problem
    program: str
    public: bool = False
    known: bool = True

    @property
    def judged_problem(self) -> Problem:
        """The problem whose `tests` are those to judge by."""
        return replace(self.problem, tests=self.problem.public_tests) if self.public else self.problem


def problem_digest(problem: Problem) -> str:
    """SHA-256 of all that decides a verdict: tests, limits, language and the like."""
    value = problem_to_json(replace(problem, prompt="", difficulty=None, extra={}))
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


@dataclass(frozen=True)
class ServedProblems:
    """The problems that a server has, and where they come from (for messages)."""

    source: str
    by_id: Mapping[str, Problem]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, problems: Sequence[Problem], source: str) -> ServedProblems:
        by_id = {problem.problem_id: problem for problem in problems}
        return cls(source, by_id, {name: problem_digest(problem) for name, problem in by_id.items()})


def encode_jobs(jobs: Sequence[Job]) -> dict[str, NDArray[Any]]:
    """The inputs of the `verifier` model.

    Raises:
        RequestError: a program or a name that has no UTF-8 form.
    """
    problems = {id(job.problem): job.problem for job in jobs}
    digests = {key: problem_digest(problem) for key, problem in problems.items()}
    return {
        "problem_ids": encode_text([job.problem.problem_id for job in jobs], "problem id"),
        "programs": encode_text([job.program for job in jobs], "program"),
        "public": np.array([[job.public] for job in jobs], dtype=np.bool_),
        "digests": encode_text([digests[id(job.problem)] for job in jobs]),
    }


def decode_jobs(inputs: Arrays, problems: ServedProblems) -> list[Job]:
    """Read and check the inputs of the `verifier` model.

    Raises:
        RequestError: neither or both of `responses` and `programs`, text that is not UTF-8, a problem that this
            server does not have, that differs from the client's, or that has no public tests to judge by.
    """
    given = [name for name in ("responses", "programs") if name in inputs]
    if len(given) != 1:
        raise RequestError(f"give either responses or programs, got {' and '.join(given) or 'neither'}")
    names = [name for (name,) in decode_text(inputs["problem_ids"], "problem id")]
    texts = [text for (text,) in decode_text(inputs[given[0]], given[0][:-1])]
    public = inputs["public"].reshape(-1).tolist() if "public" in inputs else [False] * len(names)
    digests = [digest for (digest,) in decode_text(inputs["digests"])] if "digests" in inputs else [""] * len(names)
    jobs = []
    for name, text, by_public, digest in zip(names, texts, public, digests):
        problem = problems.by_id.get(name)
        if problem is None:
            raise RequestError(f"problem {name!r} is not among the {len(problems.by_id)} of {problems.source}")
        if digest and digest != problems.digests[name]:
            raise RequestError(f"problem {name!r} of {problems.source} has other tests or limits than the client's")
        if by_public and not problem.public_tests:
            raise RequestError(f"problem {name!r} has no public tests")
        program = make_program(problem, text) if given == ["responses"] else text
        jobs.append(Job(problem, program, by_public, bool(digest)))
    return jobs


def encode_verdicts(
    jobs: Sequence[Job], verdicts: Sequence[Verdict], stop_at_first_failure: bool = False
) -> dict[str, NDArray[Any]]:
    """The outputs of the `verifier` model; pass rates are NaN where not every test has been judged."""
    rates = []
    for verdict in verdicts:
        rates.append(math.nan if stop_at_first_failure and not verdict.passed else verdict.pass_rate)
    return {
        "passed": np.array([[verdict.passed] for verdict in verdicts], dtype=np.bool_),
        "pass_rate": np.array(rates, dtype=np.float32).reshape(-1, 1),
        "verdict": encode_text([verdict.status for verdict in verdicts]),
        "feedback": encode_text([feedback(job.problem, verdict, job.public) for job, verdict in zip(jobs, verdicts)]),
        "details": encode_text([_details(job, verdict) for job, verdict in zip(jobs, verdicts)]),
    }


def decode_verdicts(outputs: Arrays) -> list[Verdict]:
    """The verdicts as the server's verifier gave them."""
    rows = [json.loads(text) for (text,) in decode_text(outputs["details"])]
    unmeasured = {"peak_mib": math.nan}  # null in JSON
    return [Verdict(**(row | (unmeasured if row["peak_mib"] is None else {}))) for row in rows]


def _details(job: Job, verdict: Verdict) -> str:
    if not (job.known or job.public):
        verdict = replace(verdict, expected=None, message="")
    return json.dumps(verdict_to_json(verdict))  # in ASCII: a program may have printed half a surrogate
