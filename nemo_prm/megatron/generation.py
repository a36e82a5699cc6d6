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

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from lightning.pytorch import Trainer
from megatron.core import tensor_parallel as megatron_tensor_parallel
from megatron.core.inference_params import InferenceParams
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
from nemo_aligner.utils.train_script_utils import init_distributed
from nemo_aligner.utils.utils import load_and_override_model_config, load_from_nemo
from omegaconf import OmegaConf

from nemo_prm.data.seeds import occurrence_seeds
from nemo_prm.errors import CheckpointError, PromptTooLongError
from nemo_prm.megatron.batching import Unit, plan_batches
from nemo_prm.megatron.checkpoint import check_nemo, has_reward_head
from nemo_prm.megatron.sampling import sample_tokens, uniforms
from nemo_prm.megatron.vocabulary import decode_tokens, vocabulary_bytes
from nemo_prm.types import Completion, SamplingParams

COMPACT_BELOW = 0.75  # share of unfinished rows below which the finished ones leave the batch (their cache is copied)
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


def load_policy(checkpoint: Path, tensor_parallel: int = 1, precision: str = "auto") -> MegatronGPTModel:
    """Load a policy for inference; collective, every rank calls it. Needs `compat.apply()` before this import.

    Raises:
        CheckpointError: no `.nemo`, or one of a model with a scalar head in place of a vocabulary.
    """
    check_nemo(checkpoint)
    if has_reward_head(checkpoint):
        raise CheckpointError(f"{checkpoint} holds a model with a scalar head (reward model or critic), not a policy")
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "32"
    trainer = Trainer(
        strategy=NLPDDPStrategy(),
        devices=tensor_parallel,
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    overrides = {
        "tensor_model_parallel_size": tensor_parallel,
        "pipeline_model_parallel_size": 1,
        "sequence_parallel": False,  # a step feeds one token per row: nothing to split
        "activations_checkpoint_granularity": None,
        "activations_checkpoint_method": None,
        "megatron_amp_O2": False,
        "precision": precision,
    }
    config = load_and_override_model_config(str(checkpoint), OmegaConf.create(overrides))
    model = load_from_nemo(MegatronGPTModel, config, trainer, strict=True, restore_path=str(checkpoint))
    init_distributed(trainer, model, config.get("transformer_engine", False))
    model.freeze()
    model.model.to(DTYPES[precision])
    if torch.cuda.is_available():
        model.model.cuda()
    return model


class MegatronGenerator:
    """A `nemo_prm.protocols.Generator` over a model in this process."""

    def __init__(self, model: MegatronGPTModel, name: str, max_batch: int = 64) -> None:
        """Sample from `model`.

        Args:
            model: from `load_policy`.
            name: for provenance.
            max_batch: rows in one forward pass.
        """
        self.name, self.max_batch = name, max_batch
        self.tokenizer = model.tokenizer
        self.context = int(model.cfg.encoder_seq_length)  # tokens, prompt and completion together
        self._gpt = model.model
        self._pieces = vocabulary_bytes(self.tokenizer, self.tokenizer.vocab_size)
        self._device = next(self._gpt.parameters()).device

    def generate(self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int) -> list[list[Completion]]:
        """Draw `n` completions per prompt; see `nemo_prm.protocols.Generator`."""
        answers = self.sample(prompts, n, params, occurrence_seeds(prompts, seed))
        refused = [i for i, answer in enumerate(answers) if isinstance(answer, str)]
        if refused:
            raise PromptTooLongError(f"prompt {refused[0]}: {answers[refused[0]]}", refused)
        return [answer for answer in answers if not isinstance(answer, str)]

    def sample(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> list[list[Completion] | str]:
        """Draw `n` completions per prompt, each prompt with a seed of its own.

        Returns:
            Per prompt its completions, or why it is too long. `params.max_new_tokens` is cut to the context.
        """
        ids = [list(self.tokenizer.text_to_ids(prompt)) for prompt in prompts]
        answers: list[list[Completion] | str] = [[] for _ in prompts]
        fitting = []
        for i, prompt_ids in enumerate(ids):
            if len(prompt_ids) + 1 > self.context:
                answers[i] = f"{len(prompt_ids)} tokens leave no room in a context of {self.context}"
            else:
                fitting.append(i)
        found: dict[tuple[int, int], Completion] = {}
        for batch in plan_batches([(i, len(ids[i])) for i in fitting], n, self.max_batch):
            found.update(self._sample_batch(batch, prompts, ids, params, seeds))
        for i in fitting:
            answers[i] = [found[i, j] for j in range(n)]
        return answers

    @torch.inference_mode()
    def _sample_batch(
        self,
        units: Sequence[Unit],
        prompts: Sequence[str],
        ids: Sequence[list[int]],
        params: SamplingParams,
        seeds: Sequence[int],
    ) -> dict[tuple[int, int], Completion]:
        """Sample the completions of `units` together: prefill each prompt once, then step by step."""
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
        for position in range(shortest, total):
            forced = position < prompt_lengths[rows]  # the prompt goes on in these rows
            draw = random[rows, (position - prompt_lengths[rows]).clamp(0, random.size(1) - 1)]
            chosen = torch.where(forced, tokens[rows, position], sample_tokens(logits, draw, params))
            tokens[rows, position] = chosen
            ended = ~forced & (lengths[rows] == 0) & ((chosen == eos) | (position + 1 == limits[rows]))
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
            stopped = bool(new) and new[-1] == eos
            text = decode_tokens(self._pieces, new)
            completions[key] = Completion(text, len(new), "stop" if stopped else "length")
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
