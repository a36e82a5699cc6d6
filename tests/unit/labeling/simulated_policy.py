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
"""A simulated policy: writes programs line by line from alternatives, with known error rates."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Sequence

from nemo_prm.errors import PromptTooLongError
from nemo_prm.types import Completion, Problem, SamplingParams, TestCase

HEAD, TAIL = "def f(v):\n", "    return v\n"


@dataclass
class Task:
    """A program of right lines; each line but head and tail has a wrong alternative, taken at `error_rate`."""

    name: str
    steps: Sequence[tuple[str, str]]  # (right, wrong), without indentation
    tests: Sequence[tuple[object, object]]
    error_rate: float = 0.3

    @property
    def prompt(self) -> str:
        return f"Task {self.name}.\n"

    @property
    def problem(self) -> Problem:
        tests = tuple(TestCase("call", args=(value,), expected=out) for value, out in self.tests)
        return Problem(self.name, self.prompt, tests, entry_point="f")

    def response(self, wrong: Sequence[int] = (), extra: str = "") -> str:
        lines = [f"    {pair[i in wrong]}\n" for i, pair in enumerate(self.steps)]
        return HEAD + "".join(lines) + extra + TAIL


@dataclass
class SimulatedPolicy:
    """Continues any prefix of a response; a line that is there is kept, right or wrong.

    A completion depends on prompt, seed and its number alone, as the generation server's do.
    """

    tasks: Sequence[Task]
    max_prompt: int = 10**9  # characters of context
    name: str = "simulated"
    calls: list[tuple[list[str], int, int]] = field(default_factory=list)  # prompts, n, first
    seconds: float = 0.0  # that a call takes

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        refused = [i for i, prompt in enumerate(prompts) if len(prompt) > self.max_prompt]
        if refused:
            raise PromptTooLongError("too long", refused)
        self.calls.append((list(prompts), n, first))
        time.sleep(self.seconds)
        return [[self._complete(prompt, seed, number) for number in range(first, first + n)] for prompt in prompts]

    def _complete(self, prompt: str, seed: int, number: int) -> Completion:
        rng = random.Random(f"{prompt}/{seed}/{number}")
        task = next(task for task in self.tasks if prompt.startswith(task.prompt))
        written = [line for line in prompt[len(task.prompt) :].splitlines() if not line.strip().startswith("#")]
        text = "" if written else HEAD
        if not written or written[-1] != TAIL.rstrip():
            for right, wrong in task.steps[max(len(written) - 1, 0) :]:
                text += f"    {wrong if rng.random() < task.error_rate else right}\n"
            text += TAIL
        return Completion(text, len(text.split()), "stop")


def chain(name: str, length: int, error_rate: float = 0.3) -> Task:
    """A task of `length` lines, in which no slip can be made good by another."""
    steps = [(f"v = 3 * v + {i}", f"v = 3 * v + {i} + 1") for i in range(length)]
    tests = []
    for value in (0, 1, -5):
        out = value
        for i in range(length):
            out = 3 * out + i
        tests.append((value, out))
    return Task(name, steps, tests, error_rate)
