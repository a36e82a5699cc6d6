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
"""The data that passes through every door: frozen dataclasses without behaviour.

Offsets into text (`Step.start`, `Step.end`) count Unicode code points of the response, not bytes and not tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Mapping

Language = Literal["python", "cpp"]
TestKind = Literal["call", "stdio", "code"]
CheckerName = Literal["exact", "tokens", "float", "unordered", "decimal", "code"]
StepKind = Literal["code", "comment", "blank", "docstring", "thought"]
ResponseClass = Literal["correct", "revised", "wrong"]
FinishReason = Literal["stop", "length"]
OutcomeSource = Literal["unit_tests", "reward_model"]
Level = Literal["full", "namespaces", "rlimits"]  # of isolation: nemo_prm/sandbox/level.py
Status = Literal[
    "passed",
    "wrong_answer",
    "runtime_error",
    "time_limit",
    "memory_limit",
    "output_limit",
    "compile_error",
    "infra_error",
]


@dataclass(frozen=True)
class Checker:
    """How an answer is compared with a right one; `nemo_prm.sandbox.compare` and docs/problems.md say what each does.

    `tolerance`, relative or absolute, belongs to `float`. `code` belongs to the checker `code`: it defines
    `check(given, expected, actual) -> bool`, where `given` is the tuple of arguments or the text of stdin.
    """

    name: CheckerName
    tolerance: float = 1e-6
    code: str = ""


@dataclass(frozen=True)
class TestCase:
    """One unit test; which fields count depends on `kind`.

    call: `entry_point(*args, **kwargs) == expected`. stdio: the program reads `stdin` and must print `stdout`.
    code: `code` defines `check(candidate)`, which raises when the candidate is wrong (HumanEval, MBPP).
    `checker` says how a call or stdio test compares; None is exact values, or lines without white space at their ends.
    `alternatives` are right answers too, beside `expected` or `stdout`.
    """

    __test__ = False  # the name starts with "Test", but pytest must not collect it

    kind: TestKind
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expected: Any = None
    stdin: str = ""
    stdout: str = ""
    code: str = ""
    checker: Checker | None = None
    alternatives: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A task and its tests.

    `tests` are hidden: they decide verdicts and are never shown to a model. `public_tests` may be used by search.
    `program_prefix` is put before the response's code to make the program (HumanEval's prompt is such a prefix; for
    problems whose response is a whole program it is empty). `outcome` says what judges a response: where it is a
    general reward model, there are no tests. `extra` keeps the unknown keys of the problem file.
    """

    problem_id: str
    prompt: str
    tests: tuple[TestCase, ...]
    public_tests: tuple[TestCase, ...] = ()
    language: Language = "python"
    entry_point: str | None = None
    difficulty: str | None = None
    time_limit_s: float = 2.0
    memory_limit_mb: int = 512
    program_prefix: str = ""
    outcome: OutcomeSource = "unit_tests"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step of a response: `response[start:end]`, its last newline included. Offsets in code points."""

    start: int
    end: int
    kind: StepKind = "code"


@dataclass(frozen=True)
class SamplingParams:
    """How to sample: `temperature` 0 is greedy, `top_k` 0 and `top_p` 1 switch the filter off; lengths in tokens.

    A completion ends before the first occurrence of a string of `stop` in it, with the finish reason "stop".
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One sampled continuation of a prompt: its text, the tokens generated for it, and why it ended.

    `num_tokens` counts the end-of-text token and what a stop string has cut off.
    """

    text: str
    num_tokens: int
    finish_reason: FinishReason


@dataclass(frozen=True)
class Response:
    """A response to a problem, sampled from `checkpoint` (a name, for provenance)."""

    problem_id: str
    response_id: str
    text: str
    checkpoint: str = ""
    num_tokens: int = 0
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True)
class Verdict:
    """What came of running one program on the tests of one problem.

    `infra_error` means unknown: the judge failed, not the program. It is never a pass and never a zero.
    `failing_test` is the index of the first test that did not pass; `expected` and `actual` are bounded reprs of its
    two sides. `seconds` is wall time over all tests, `peak_mib` the peak resident memory (NaN when not measured).
    `sandbox` and `level` say who judged, and how far the program was isolated meanwhile.
    """

    status: Status
    num_tests: int = 0
    num_passed: int = 0
    failing_test: int | None = None
    expected: str | None = None
    actual: str | None = None
    message: str = ""
    seconds: float = 0.0
    peak_mib: float = math.nan
    sandbox: str = ""
    level: Level | Literal[""] = ""

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.status == "passed"

    @property
    def pass_rate(self) -> float:
        """Share of the tests that passed; without tests 1 for a pass and 0 else; NaN where unknown."""
        if self.status == "infra_error":
            return math.nan
        return self.num_passed / self.num_tests if self.num_tests else float(self.passed)


@dataclass(frozen=True)
class Probe:
    """One prefix that the search asked about: its number of steps, completions drawn, and how many of them passed."""

    num_steps: int
    num_completions: int
    num_passed: int


@dataclass(frozen=True)
class Derivation:
    """A program that the policy derived from the first `num_steps` steps of a response, and what came of it.

    `completion` goes on from these steps; it is empty for the response's own program. `pass_rate` is the share of the
    problem's tests that it passed, before the first failure where the sandbox stops there. `feedback` is that of the
    public tests, or, where the problem has none, what may be told of the hidden ones (`nemo_prm.data.feedback`).
    """

    num_steps: int
    completion: str
    pass_rate: float
    feedback: str


@dataclass(frozen=True)
class Cost:
    """What a label cost: completions generated, their tokens, programs executed, wall seconds."""

    completions: int = 0
    tokens: int = 0
    executions: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class LabelRow:
    """One labelled response; `labels[i]` in [-1, 1] belongs to `steps[i]` (hard labels: +1, -1, 0 for neutral).

    `audit` holds every search point with all K completions, for the share of responses that are audited. Where every
    step was asked about (Monte Carlo), `derivations` holds all programs, and a label is 2 p - 1 for the mean p of its
    step's pass rates (CodePRM, 2025.findings-acl.428); else it holds what was run for each probe, if that was kept.
    `version`, of nemo_prm, and `settings_sha256`, of the settings of the job, say how to make the row again; the store
    fills them in, and they are empty in rows of older versions.

    PSGPO (arXiv 2410.17621), Algorithm 1 and Eq. 1.
    """

    problem_id: str
    response_id: str
    checkpoint: str
    prompt: str
    response: str
    steps: tuple[Step, ...]
    labels: tuple[float, ...]
    response_class: ResponseClass
    probes: tuple[Probe, ...]
    cost: Cost
    seed: int
    generator: str
    sandbox: str
    difficulty: str | None = None
    verdict: Verdict | None = None
    finish_reason: FinishReason = "stop"
    audit: tuple[Probe, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    version: str = ""
    settings_sha256: str = ""

    @property
    def neutral(self) -> tuple[bool, ...]:
        """Which steps are neutral: those with label 0, but for code and thoughts, whose soft labels may be 0."""
        never = ("thought", "code")
        return tuple(label == 0 and step.kind not in never for step, label in zip(self.steps, self.labels))
