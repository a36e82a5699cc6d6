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
"""Doors of labeling.py: a simulated policy of known strength, simulated time, a memory, and a judge that compares.

The simulated policy writes a program line by line, and each further line wrong with a known probability. A line that
is in the prompt is kept, right or wrong. Its completions depend on prompt, seed and number alone, as the generation
server's do.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Sequence

from nemo_prm.data.embedded.chains import HEAD, INDENT, PARAMETERS, TAIL, Link
from nemo_prm.data.embedded.operations import OPERATIONS
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Completion, Problem, Response, SamplingParams, TestCase, Verdict

TOKENS_PER_LINE = 12


@dataclass(frozen=True)
class Task:
    """A program of right lines; all but the head and the tail have a wrong alternative."""

    problem: Problem
    steps: Sequence[tuple[str, str]]  # right, wrong
    error_rate: float = 0.0

    def program(self, wrong: Sequence[int] = ()) -> str:
        return HEAD + "".join(pair[i in wrong] for i, pair in enumerate(self.steps)) + TAIL

    def with_bug(self, line: int) -> Response:
        """The right program with one wrong line; the first `line` + 1 lines (with the head) are right."""
        return Response(self.problem.problem_id, f"bug-{line}", self.program([line]))


@dataclass
class SimulatedPolicy:
    """A `nemo_prm.protocols.Generator`; `error_rate` replaces that of the tasks where it is given."""

    tasks: dict[str, Task]  # by prompt
    error_rate: float | None = None
    name: str = "simulated"

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        return [[self._complete(prompt, seed, number) for number in range(first, first + n)] for prompt in prompts]

    def _complete(self, prompt: str, seed: int, number: int) -> Completion:
        head, _, prefix = prompt.partition("\n")
        task, written = self.tasks[head + "\n"], prefix.count("\n")
        rate = task.error_rate if self.error_rate is None else self.error_rate
        if written > len(task.steps) + 1:
            return Completion("", 1, "stop")
        rng = random.Random(f"{prompt}/{seed}/{number}").random
        lines = [pair[rng() < rate] for pair in task.steps[max(written - 1, 0) :]]
        text = ("" if written else HEAD) + "".join(lines) + TAIL
        return Completion(text, TOKENS_PER_LINE * text.count("\n") + 1, "stop")


def chains(count: int, error_rate: float, lengths: Sequence[int], seed: int = 0) -> list[Task]:
    """Tasks in which no slip makes good another, so that a program passes if and only if it is the right one."""
    rng, tasks = random.Random(f"{seed}/{error_rate}"), []
    for number in range(count):
        steps = [(f"{INDENT}v = 3 * v + {i}\n", f"{INDENT}v = 3 * v + {i} + 1\n") for i in range(rng.choice(lengths))]
        tests = []
        for value in (0, 1, -5):
            out = value
            for i in range(len(steps)):
                out = 3 * out + i
            tests.append(TestCase("call", args=(value,), expected=out))
        name = f"chain-{error_rate}-{number}"
        problem = Problem(name, f"Task {name}.\n", tuple(tests), entry_point="solve")
        tasks.append(Task(problem, steps, error_rate))
    return tasks


def embedded_tasks(problems: Sequence[Problem]) -> list[Task]:
    """The embedded solutions; the wrong alternative of a line is a slip that the problem's tests catch by design."""
    slips = {}
    for operation in OPERATIONS:
        for k in PARAMETERS if operation.has_parameter else (0,):
            link = Link(operation, k, 0)
            slips[operation.name, link.expression] = link.slips[0]
    tasks = []
    for problem in problems:
        lines = [line for line in problem.extra["solution"].splitlines(True) if line.startswith(f"{INDENT}v = ")]
        pairs = []
        for name, line in zip(problem.extra["operations"], lines):
            expression = line.strip().removeprefix("v = ")
            pairs.append((line, f"{INDENT}v = {slips[name, expression]}\n"))
        tasks.append(Task(problem, pairs))
    return tasks


@dataclass
class Comparing:
    """A `nemo_prm.protocols.Verifier` for `chains`: a program passes if it is the right one, after a fixed time."""

    tasks: dict[str, Task]  # by problem_id
    seconds: float = 0.0
    workers: int = 1
    name: str = "comparing"
    busy_s: float = 0.0  # of all workers together

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers) if self.seconds else None
        self._lock = threading.Lock()

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        started = time.monotonic()
        if self.seconds:
            time.sleep(self.seconds)
        passed = program == self.tasks[problem.problem_id].program()
        with self._lock:
            self.busy_s += time.monotonic() - started
        return Verdict("passed" if passed else "wrong_answer", seconds=self.seconds)

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Future[Verdict]:
        if self._pool is not None:
            return self._pool.submit(self.verify, problem, program, tests)
        done: Future[Verdict] = Future()
        done.set_result(self.verify(problem, program, tests))
        return done

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return [job.result() for job in [self.submit(problem, program) for problem, program in jobs]]


@dataclass(frozen=True)
class Latency:
    """What a call of a generation server takes: decoding is one step a token, dearer the more rows it carries."""

    call_s: float = 0.05  # of each call: network, prefill
    step_s: float = 0.010  # of each step
    row_s: float = 0.00002  # of each row of a step
    max_rows: int = 256  # decoded together
    scale: float = 1.0  # of all of these

    def seconds(self, rows: int, steps: int) -> float:
        rounds = -(-rows // self.max_rows)
        return self.scale * (self.call_s + steps * (rounds * self.step_s + rows * self.row_s))


class Timed:
    """A generator that answers one call at a time, each after the time that `latency` or `fixed_s` says."""

    def __init__(self, generator: Generator, latency: Latency | None, fixed_s: float = 0.0) -> None:
        self._generator, self._latency, self._fixed_s = generator, latency, fixed_s
        self._lock = threading.Lock()
        self.name = generator.name
        self.busy_s, self.calls, self.rows = 0.0, 0, 0

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        with self._lock:
            started = time.monotonic()
            drawn = self._generator.generate(prompts, n, params, seed, first)
            wanted = self._fixed_s
            if self._latency is not None:
                wanted = self._latency.seconds(len(prompts) * n, max(c.num_tokens for each in drawn for c in each))
            time.sleep(max(wanted - (time.monotonic() - started), 0.0))
            self.busy_s += time.monotonic() - started
            self.calls += 1
            self.rows += len(prompts) * n
        return drawn


@dataclass
class Memory:
    """Remembers what the policy said, so that many ways of asking cost one policy. A `Generator`."""

    generator: Generator
    known: dict[tuple[str, int, int], Completion] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.generator.name

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        assert len(set(prompts)) == len(prompts), "a prompt that is repeated has another stream"
        numbers = range(first, first + n)
        new = [prompt for prompt in prompts if any((prompt, seed, i) not in self.known for i in numbers)]
        if new:
            for prompt, drawn in zip(new, self.generator.generate(new, n, params, seed, first)):
                self.known.update({(prompt, seed, i): each for i, each in zip(numbers, drawn)})
        return [[self.known[prompt, seed, i] for i in numbers] for prompt in prompts]


class JudgedOnce:
    """Remembers verdicts. A `Verifier`."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier, self.name = verifier, verifier.name
        self._known: dict[tuple[str, str, bool], Future[Verdict]] = {}

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Future[Verdict]:
        key = (problem.problem_id, program, tests is not None)
        if key not in self._known:
            self._known[key] = self._verifier.submit(problem, program, tests)
        return self._known[key]

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        return self.submit(problem, program, tests).result()

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return [job.result() for job in [self.submit(problem, program) for problem, program in jobs]]
