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
"""The four doors between the light side (text, verdicts) and the heavy side (tensors, servers), and the splitter."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol, Sequence

from nemo_prm.types import Completion, Language, Problem, SamplingParams, Step, TestCase, Verdict


class Generator(Protocol):
    """Samples continuations of prompts from a policy.

    A prompt, a seed and sampling parameters have one endless stream of completions. A completion depends on these and
    its number in the stream alone: 0 to 19 drawn in one call are those of five calls, whatever else the calls ask for.
    """

    @property
    def name(self) -> str:
        """Which policy, for provenance; more exact once it has answered."""
        ...

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """Draw the completions number `first` to `first + n - 1` of each prompt's stream.

        Args:
            prompts: texts to continue; a prefix of a response is simply part of the prompt. One that occurs again in
                the call has another stream (`nemo_prm.data.seeds`).
            n: completions per prompt, at least 1.
            params: sampling parameters, the same for all prompts of the call.
            seed: names the streams: a completion depends on its prompt, the seed and its number alone, so to draw 20
                of them is to draw 2, then 18 from number 2 on.
            first: how many completions of each stream to pass over.

        Returns:
            One list of `n` completions per prompt, in order.

        Raises:
            nemo_prm.errors.PromptTooLongError: prompts that fill the policy's context.
            nemo_prm.errors.RequestFailedError: the policy is there, but failed on these prompts or answered nonsense.
            nemo_prm.errors.GeneratorError: the policy could not be reached.
        """
        ...


class CheckpointGenerator(Generator, Protocol):
    """A generator that can change its checkpoint."""

    def load(self, checkpoint: str) -> str:
        """Go on with another checkpoint; returns its name.

        Args:
            checkpoint: a `.nemo` as the generation server sees it, one of the endpoint's models, or a recorded one.

        Raises:
            nemo_prm.errors.GeneratorError: there is no such checkpoint, or it does not fit.
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

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Future[Verdict]:
        """Begin to judge `program`, as `verify` does; cancelling the future drops or ends the work."""
        ...

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Judge several programs, concurrently where the machine allows; verdicts in the order of `jobs`."""
        ...


class StepScorer(Protocol):
    """Scores every step of responses (a process reward model)."""

    def score_steps(
        self, prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[list[float]]:
        """Return one raw score per line of each response (a line ends with its newline; the last may lack one).

        None for a response that does not fit the model's context with its prompt: its list is empty. `finished` is
        given where some response was cut off.
        """
        ...


class OutcomeScorer(Protocol):
    """Scores whole responses (an outcome or general reward model)."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Return one scalar per response."""
        ...


class Splitter(Protocol):
    """Cuts a response into steps (`nemo_prm.data.splitters`)."""

    def __call__(self, response: str, language: Language, prompt: str = "") -> tuple[Step, ...]:
        """Return the steps of any text, broken code included; `prompt` is what it answers.

        They are contiguous, none is empty, each ends with a newline or with the response, and they cover
        `nemo_prm.data.steps.code_span`, or all from 0 to its end where the text before the code counts too.

        Raises:
            nemo_prm.errors.ConfigError: a parser that the splitter needs is not installed.
        """
        ...
