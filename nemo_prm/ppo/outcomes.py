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
"""R_UT: what the unit tests say of a response."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

from nemo_prm.data.steps import make_program
from nemo_prm.errors import ConfigError
from nemo_prm.megatron.vocabulary import decode_tokens, vocabulary_bytes
from nemo_prm.protocols import Verifier
from nemo_prm.types import Problem, Verdict

OUTCOMES: dict[str, Callable[[Verdict], float]] = {
    "passed": lambda verdict: float(verdict.passed),
    "pass_rate": lambda verdict: verdict.pass_rate,
}


class Judge:
    """Turns tokens into programs and runs their tests."""

    def __init__(self, problems: Sequence[Problem], tokenizer: Any, verifier: Verifier, outcome: str) -> None:
        """
        Args:
            problems: what `problem_index` of a rollout refers to.
            tokenizer: the policy's NeMo tokenizer.
            verifier: runs the hidden tests.
            outcome: passed, 1 where all tests pass and 0 else; or pass_rate, the share of the tests.

        Raises:
            ConfigError: there is no such outcome.
        """
        if outcome not in OUTCOMES:
            raise ConfigError(f"outcome must be one of {', '.join(OUTCOMES)}, found {outcome!r}")
        self.problems, self.verifier, self._outcome = problems, verifier, OUTCOMES[outcome]
        self.pieces = vocabulary_bytes(tokenizer, tokenizer.vocab_size)

    def response(self, tokens: Sequence[int]) -> str:
        """The text of response tokens."""
        return decode_tokens(self.pieces, tokens)

    def outcomes(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[float]:
        """The outcome of each response, NaN unknown.

        Args:
            problems: one per response.
            responses: their tokens.
        """
        programs = [make_program(each, self.response(tokens)) for each, tokens in zip(problems, responses)]
        verdicts = self.verifier.verify_many(list(zip(problems, programs)))
        return [math.nan if each.status == "infra_error" else self._outcome(each) for each in verdicts]
