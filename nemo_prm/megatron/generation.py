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
"""Completions from a Megatron GPT: batched sampling with a KV cache on Megatron's own forward pass.

NeMo's `generate` is not used: its random numbers depend on what shares the batch, it prefills a prompt once per
completion, and it carries finished rows to the end. The cache is Megatron's `InferenceParams`, so attention and tensor
parallelism are the host's.

Shape legend: B rows (completions), U distinct prompts, S tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

import numpy as np
import torch
from megatron.core import tensor_parallel as megatron_tensor_parallel
from megatron.core.inference_params import InferenceParams
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel

from nemo_prm.data.stops import finished
from nemo_prm.megatron.batching import Unit, plan_batches
from nemo_prm.megatron.local import LocalGenerator, Numbered
from nemo_prm.megatron.sampling import sample_tokens, uniforms
from nemo_prm.megatron.stopping import StopWatch
from nemo_prm.megatron.vocabulary import decode_tokens
from nemo_prm.types import Completion, FinishReason, SamplingParams

COMPACT_BELOW = 0.75  # share of unfinished rows below which the finished ones leave the batch (their cache is copied)


class MegatronGenerator(LocalGenerator):
    """Samples with Megatron's own forward pass, on the CPU or a GPU."""

    def __init__(self, model: MegatronGPTModel, name: str, max_batch: int = 64) -> None:
        """See `LocalGenerator`."""
        super().__init__(model, name, max_batch)
        self._gpt = model.model
        self._device = next(self._gpt.parameters()).device

    def _draw(
        self,
        fitting: Sequence[int],
        prompts: Sequence[str],
        ids: Sequence[Sequence[int]],
        numbers: range,
        params: SamplingParams,
        seeds: Sequence[int],
    ) -> Numbered:
        found: dict[tuple[int, int], Completion] = {}
        for batch in plan_batches([(i, len(ids[i])) for i in fitting], len(numbers), self.max_batch):
            units = [unit._replace(first=numbers[unit.first]) for unit in batch]
            found.update(self._sample_batch(units, prompts, ids, params, seeds))
        return found

    @torch.inference_mode()
    def _sample_batch(
        self,
        units: Sequence[Unit],
        prompts: Sequence[str],
        ids: Sequence[Sequence[int]],
        params: SamplingParams,
        seeds: Sequence[int],
    ) -> Numbered:
        """Sample the completions of `units` together: prefill each prompt once, then step by step."""
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self.context))
        device, eos = self._device, self.tokenizer.eos_id
        keys = [(unit.prompt, unit.first + k) for unit in units for k in range(unit.rows)]  # of the B rows
        source = torch.tensor([u for u, unit in enumerate(units) for _ in range(unit.rows)], device=device)
        prompt_lengths = torch.tensor([len(ids[unit.prompt]) for unit in units], device=device)
        limits = (prompt_lengths + params.max_new_tokens).clamp(max=self.context)
        shortest, total = int(prompt_lengths.min()), int(limits.max())
        tokens = torch.full((len(units), total), eos, dtype=torch.long, device=device)
        for u, unit in enumerate(units):
            tokens[u, : len(ids[unit.prompt])] = torch.tensor(ids[unit.prompt], device=device)
        if params.temperature > 0:
            draws = [uniforms(prompts[i], seeds[i], j, params.max_new_tokens) for i, j in keys]
            random = torch.from_numpy(np.stack(draws)).to(device)
        else:
            random = torch.zeros(len(keys), params.max_new_tokens, dtype=torch.float64, device=device)

        cache = InferenceParams(max_batch_size=len(units), max_sequence_length=total)
        logits = self._forward(tokens[:, :shortest], cache)[source]
        _keep_rows(cache, source)
        tokens, prompt_lengths, limits = tokens[source], prompt_lengths[source], limits[source]
        rows = torch.arange(len(keys), device=device)  # which completions the batch still holds
        lengths = torch.zeros(len(keys), dtype=torch.long, device=device)  # prompt and completion; 0: unfinished
        watch = StopWatch(params.stop, self.pieces, len(keys))
        for position in range(shortest, total):
            forced = position < prompt_lengths[rows]  # the prompt goes on in these rows
            draw = random[rows, (position - prompt_lengths[rows]).clamp(0, random.size(1) - 1)]
            chosen = torch.where(forced, tokens[rows, position], sample_tokens(logits, draw, params))
            tokens[rows, position] = chosen
            stopped = chosen == eos
            if params.stop:
                new = [-1 if old else token for old, token in zip(forced.tolist(), chosen.tolist())]
                spelled = [token >= 0 and watch.read(row, token) for row, token in zip(rows.tolist(), new)]
                stopped |= torch.tensor(spelled, device=device)
            ended = ~forced & (lengths[rows] == 0) & (stopped | (position + 1 == limits[rows]))
            lengths[rows[ended]] = position + 1
            unfinished = lengths[rows] == 0
            count = int(unfinished.sum())
            if count == 0:
                break
            if count < COMPACT_BELOW * len(rows):
                kept = unfinished.nonzero().squeeze(-1)
                rows, chosen = rows[kept], chosen[kept]
                _keep_rows(cache, kept)
            logits = self._forward(chosen.unsqueeze(-1), cache)

        completions = {}
        for key, row, length in zip(keys, tokens.tolist(), lengths.tolist()):
            new = row[len(ids[key[0]]) : length]
            reason: FinishReason = "stop" if new[-1] == eos else "length"
            completions[key] = finished(decode_tokens(self.pieces, new), len(new), reason, params.stop)
        return completions

    def _forward(self, tokens: torch.Tensor, cache: Any) -> torch.Tensor:
        """Feed `tokens` int64 [B, S] behind the cache; the logits float [B, V] of what follows the last one."""
        start = cache.sequence_len_offset
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device).expand_as(tokens)
        cache.materialize_only_last_token_logits = True  # megatron-core 0.12; 0.11 returns all and does not look
        output = self._gpt(tokens, positions, None, inference_params=cache)[:, -1]
        cache.sequence_len_offset = start + tokens.size(1)
        logits = megatron_tensor_parallel.gather_from_tensor_model_parallel_region(output).float()
        logits[:, self.tokenizer.vocab_size :] = -torch.inf  # the vocabulary is padded to a multiple
        return logits


def _keep_rows(cache: Any, rows: torch.Tensor) -> None:
    """Make the cache hold `rows` of its rows, repeated or left out at will.

    Megatron's shape [S, B, heads, D] stays; in memory the tokens of a head now lie together, as attention reads them.
    """
    for layer, memory in cache.key_value_memory_dict.items():
        kept = [tensor.permute(1, 2, 0, 3)[rows].contiguous().permute(2, 0, 1, 3) for tensor in memory]
        cache.key_value_memory_dict[layer] = (kept[0], kept[1])
    cache.max_batch_size = cache.current_batch_size = len(rows)
