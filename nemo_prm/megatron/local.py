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
"""What the generators of this process have in common, whatever computes their tokens; imports nothing heavy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm.data.seeds import occurrence_seeds
from nemo_prm.errors import PromptTooLongError
from nemo_prm.megatron.vocabulary import vocabulary_bytes
from nemo_prm.types import Completion, SamplingParams

Numbered = Mapping[tuple[int, int], Completion]  # by index of the prompt and number of the completion


class LocalGenerator(ABC):
    """A `nemo_prm.protocols.Generator` over a model in this process; every method is collective over its ranks."""

    def __init__(self, model: Any, name: str, max_batch: int) -> None:
        """Generate with `model`.

        Args:
            model: a MegatronGPTModel, from `nemo_prm.megatron.policy.load_policy`.
            name: of its checkpoint.
            max_batch: rows computed together.
        """
        self.name, self.max_batch, self.model = name, max_batch, model
        self.tokenizer = model.tokenizer
        self.context = int(model.cfg.encoder_seq_length)  # tokens, prompt and completion together
        self.pieces = vocabulary_bytes(self.tokenizer, self.tokenizer.vocab_size)

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """See `nemo_prm.protocols.Generator`."""
        answers = self.sample(prompts, n, params, occurrence_seeds(prompts, seed), first)
        refused = [i for i, answer in enumerate(answers) if isinstance(answer, str)]
        if refused:
            raise PromptTooLongError(f"prompt {refused[0]}: {answers[refused[0]]}", refused)
        return [answer for answer in answers if not isinstance(answer, str)]

    def sample(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seeds: Sequence[int], first: int = 0
    ) -> list[list[Completion] | str]:
        """Draw the completions number `first` to `first + n - 1` of each prompt, which has a seed of its own.

        Returns:
            Per prompt its completions, or why it is too long. `params.max_new_tokens` is cut to the context.
        """
        ids = [list(self.tokenizer.text_to_ids(prompt)) for prompt in prompts]
        fitting = [i for i, prompt_ids in enumerate(ids) if len(prompt_ids) < self.context]
        found = self._draw(fitting, prompts, ids, range(first, first + n), params, seeds) if fitting else {}
        answers: list[list[Completion] | str] = [
            f"{len(prompt_ids)} tokens leave no room in a context of {self.context}" for prompt_ids in ids
        ]
        for i in fitting:
            answers[i] = [found[i, number] for number in range(first, first + n)]
        return answers

    @abstractmethod
    def _draw(
        self,
        fitting: Sequence[int],
        prompts: Sequence[str],
        ids: Sequence[Sequence[int]],
        numbers: range,
        params: SamplingParams,
        seeds: Sequence[int],
    ) -> Numbered:
        """Draw the completions `numbers` of the prompts `fitting`, each of which leaves room for a token.

        Args:
            fitting: indices into `prompts`, `ids` and `seeds`.
            prompts: all texts of the call.
            ids: their tokens.
            numbers: of the completions wanted, the same for all prompts.
            params: sampling parameters.
            seeds: one per prompt.
        """

    def load(self, checkpoint: Path, name: str) -> None:
        """Go on with the weights of another checkpoint of the same architecture; collective.

        Args:
            checkpoint: a `.nemo`; what it holds has been checked (`nemo_prm.megatron.identity`).
            name: of the checkpoint.

        Raises:
            CheckpointError: the weights cannot be read, on this rank or another; the old ones stay.
        """
        from nemo_prm.megatron.policy import reload_weights

        reload_weights(self.model, checkpoint)
        self.name = name
