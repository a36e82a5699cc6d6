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
"""The four doors between the light side (text, verdicts) and the heavy side (tensors, servers)."""

from __future__ import annotations

from typing import Protocol, Sequence

from nemo_prm.types import Completion, Problem, SamplingParams, TestCase, Verdict


class Generator(Protocol):
    """Samples continuations of prompts from a policy."""

    name: str

    def generate(self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int) -> list[list[Completion]]:
        """Draw `n` completions for each prompt.

        Args:
            prompts: texts to continue; a prefix of a response is simply part of the prompt.
            n: completions per prompt, at least 1.
            params: sampling parameters, the same for all prompts of the call.
            seed: the same seed and prompts give the same completions.

        Returns:
            One list of `n` completions per prompt, in order.

        Raises:
            nemo_prm.errors.GeneratorError: the policy could not be reached or answered nonsense.
        """
        ...


class Verifier(Protocol):
    """Runs a program on the tests of a problem."""

    name: str

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        """Judge `program`; `tests` defaults to the problem's hidden tests.

        A wrong program is a result, not an error: this raises only for a misuse of the interface. Failures of the
        judge itself come back as `infra_error`.
        """
        ...

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Judge several programs, concurrently where the machine allows; verdicts in the order of `jobs`."""
        ...


class StepScorer(Protocol):
    """Scores every step of responses (a process reward model)."""

    def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
        """Return one raw score per line of each response (a line ends with its newline; the last may lack one)."""
        ...


class OutcomeScorer(Protocol):
    """Scores whole responses (an outcome or general reward model)."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Return one scalar per response."""
        ...
