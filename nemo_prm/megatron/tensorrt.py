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
"""Completions from TensorRT-LLM, through NeMo-Aligner's `GPTGenerateTRTLLM`: an engine built from the Megatron model.

Not yet run: TensorRT-LLM needs a GPU and NVIDIA's container. What was read instead:

- NeMo-Aligner 0.7.0 `utils/trt_llm.py`, and how `megatron_gpt_ppo_actor.py` drives it (`refit`, then `generate`). Its
  `sampling_config` is one TensorRT-LLM `SamplingConfig`, read at each `generate`, so a request may change it; its
  random seeds are drawn in `_generate` and written into it with `update(random_seed=...)`. `response_lengths` count
  the prompt and the end-of-text token. The first `refit` builds the engine, later ones swap its weights.
- NeMo 2.2.1 `export/tensorrt_llm.py` and megatron-core 0.12.3 `export/trtllm`: an engine takes `max_input_len` +
  `max_output_len` tokens in all; ranks are MPI's; models are llama, gptnext, gemma, falcon, starcoder, mixtral.
- TensorRT-LLM, which NeMo-Aligner 0.7's Dockerfile takes at v0.13.0: `runtime/generation.py` and `model_runner.py` as
  stored near that release (`ModelRunner.generate` copies the config; `random_seed` is int64 [B], one stream per row;
  a word list is int32 [B, 2, L]). v0.13.0 itself was not at hand.

What it cannot honour as `MegatronGenerator` does: rows have seeds of their own, but the kernels behind their logits
are chosen by batch shape, so that a completion may, rarely, differ with what shares its batch; another GPU or version
samples other completions. A stop string ends the work early only where the policy spells it in the tokens that the
tokenizer would use; the text is cut in any case. A `top_k` over 1024 is TensorRT-LLM's to refuse.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_prm.data.stops import finished
from nemo_prm.errors import ConfigError, DataError, ServerError
from nemo_prm.megatron.local import LocalGenerator, Numbered
from nemo_prm.megatron.sampling import stream_key
from nemo_prm.megatron.vocabulary import decode_tokens, encode_continuation
from nemo_prm.types import Completion, FinishReason, SamplingParams

Backend = Literal["megatron", "tensorrt_llm"]
BACKENDS = ("auto", "megatron", "tensorrt_llm")
CONTAINER = "nvcr.io/nvidia/nemo:25.02, or the image of NeMo-Aligner 0.7's Dockerfile"
MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")  # set by mpirun and by srun --mpi


def resolve_backend(backend: str, tensor_parallel: int) -> Backend:
    """What computes completions here.

    Raises:
        ConfigError: no such backend, or TensorRT-LLM is asked for and cannot run.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    missing = [] if importlib.util.find_spec("tensorrt_llm") else ["TensorRT-LLM"]
    missing += [] if torch.cuda.is_available() else ["a CUDA GPU"]
    if backend == "megatron" or (backend == "auto" and missing):
        return "megatron"
    if missing:
        raise ConfigError(
            f"backend=tensorrt_llm needs {' and '.join(missing)}, which this machine lacks: run in NVIDIA's NeMo "
            f"container ({CONTAINER}), or choose backend=megatron"
        )
    if tensor_parallel > 1 and not any(name in os.environ for name in MPI_RANKS):
        raise ConfigError(
            "TensorRT-LLM takes its rank from MPI: start with mpirun -n N or srun --mpi=pmix in place of torchrun, or "
            "choose backend=megatron"
        )
    return "tensorrt_llm"


class Row(NamedTuple):
    """One completion to generate: its prompt, its number, and the most tokens it may have."""

    prompt: int
    number: int
    limit: int


def plan_rows(
    prompts: Sequence[tuple[int, int]], numbers: range, max_new_tokens: int, context: int, max_batch: int
) -> list[list[Row]]:
    """Put completions into batches; those of a batch have one limit, which is all that an engine knows.

    Args:
        prompts: number and length in tokens of each prompt.
        numbers: of the completions of each prompt.
        max_new_tokens: cut to what `context` leaves.
        context: tokens, prompt and completion together.
        max_batch: rows.
    """
    limits: dict[int, list[Row]] = {}
    for prompt, length in sorted(prompts, key=lambda item: (item[1], item[0])):
        limit = min(max_new_tokens, context - length)
        limits.setdefault(limit, []).extend(Row(prompt, number, limit) for number in numbers)
    return [rows[start : start + max_batch] for rows in limits.values() for start in range(0, len(rows), max_batch)]


def word_list(words: Sequence[Sequence[int]], rows: int) -> NDArray[np.int32]:
    """TensorRT-LLM's list of words to stop at: int32 [rows, 2, L], the ids of all words and where each word ends.

    L is the number of ids; the ends are padded with -1.
    """
    ids = [token for word in words for token in word]
    ends = np.cumsum([len(word) for word in words]).tolist()
    array = np.array([ids, ends + [-1] * (len(ids) - len(ends))], dtype=np.int32)
    return np.tile(array, (rows, 1, 1))


def with_seeds(config: Any, seeds: torch.Tensor) -> Any:
    """The host's sampling config with random seeds that stay, whatever `update` brings.

    Args:
        config: a TensorRT-LLM `SamplingConfig`, changed in place.
        seeds: int64 [B], one per row.
    """
    base = getattr(type(config), "unseeded", type(config))

    class Seeded(base):  # type: ignore[misc]
        unseeded = base

        def update(self, **changes: Any) -> Any:
            return super().update(**{**changes, "random_seed": seeds})

    config.__class__ = Seeded
    config.update()
    return config


def read_completion(
    tokens: Sequence[int],
    prompt_length: int,
    total_length: int,
    limit: int,
    eos: int,
    pieces: Sequence[bytes],
    stop: Sequence[str],
) -> Completion:
    """The completion in a row of the engine's output.

    Args:
        tokens: the prompt, the completion, padding.
        prompt_length: in tokens.
        total_length: prompt and completion, the end-of-text token included.
        limit: most tokens of the completion.
        eos: the end-of-text token.
        pieces: of the vocabulary.
        stop: strings to cut at.
    """
    new = list(tokens[prompt_length : min(total_length, prompt_length + limit)])
    if eos in new:
        new = new[: new.index(eos) + 1]  # an engine may go on behind it
    strange = [i for i, token in enumerate(new) if not 0 <= token < len(pieces)]
    if strange:  # TensorRT-LLM is known to give ids of no token; the host takes such a response as one without an end
        new = new[: strange[0]]
    reason: FinishReason = "stop" if new and new[-1] == eos else "length"
    return finished(decode_tokens(pieces, new), max(len(new), 1), reason, stop)


class TensorRTGenerator(LocalGenerator):
    """Generates with a TensorRT-LLM engine; the Megatron model stays beside it, for later checkpoints' weights."""

    def __init__(self, model: Any, name: str, max_batch: int, model_type: str) -> None:
        """Build the engine (minutes); collective.

        Args:
            model: a MegatronGPTModel, from `nemo_prm.megatron.policy.load_policy`.
            name: of its checkpoint.
            max_batch: rows in one batch.
            model_type: what the host's exporter is to take the model for.
        """
        from nemo_aligner.utils.trt_llm import GPTGenerateTRTLLM

        super().__init__(model, name, max_batch)
        self._broken = ""
        self._folder = tempfile.TemporaryDirectory(prefix="nemo_prm_engine_")  # of rank 0: all ranks write to it
        folders: list[Any] = [self._folder.name]
        if torch.distributed.get_world_size() > 1:
            torch.distributed.broadcast_object_list(folders, src=0)
        self._engine = GPTGenerateTRTLLM(
            model_cfg=model.cfg,
            end_strings=[],
            tokenizer=self.tokenizer,
            max_input_len=self.context - 1,  # only the sum binds: a long prompt leaves less room, a short one more
            max_generation_length=1,
            generation_batch_size=max_batch,
            trt_model_type=model_type,
            seed=0,  # not used: rows bring their own
            trt_model_dir=folders[0],
        )
        self._engine.refit(model.model)

    def _draw(
        self,
        fitting: Sequence[int],
        prompts: Sequence[str],
        ids: Sequence[Sequence[int]],
        numbers: range,
        params: SamplingParams,
        seeds: Sequence[int],
    ) -> Numbered:
        if self._broken:
            raise ServerError(self._broken)
        eos = int(self.tokenizer.eos_id)
        words = [[eos], *self._stop_words(params.stop)]
        found: dict[tuple[int, int], Completion] = {}
        lengths = [(i, len(ids[i])) for i in fitting]
        for rows in plan_rows(lengths, numbers, params.max_new_tokens, self.context, self.max_batch):
            greedy = params.temperature == 0
            self._engine.sampling_config.update(
                temperature=1.0 if greedy else float(params.temperature),
                top_k=1 if greedy else params.top_k,
                top_p=1.0 if greedy else float(params.top_p),
                max_new_tokens=rows[0].limit,
                stop_words_list=word_list(words, len(rows)),
            )
            keys = [stream_key(prompts[row.prompt], seeds[row.prompt], row.number) for row in rows]
            with_seeds(self._engine.sampling_config, torch.tensor([key >> 65 for key in keys]))  # 63 bits of 128
            prompt_lengths = torch.tensor([len(ids[row.prompt]) for row in rows])
            prompt_tokens = torch.full((len(rows), int(prompt_lengths.max())), eos, dtype=torch.int32)
            for i, row in enumerate(rows):
                prompt_tokens[i, : prompt_lengths[i]] = torch.tensor(ids[row.prompt], dtype=torch.int32)
            output = self._engine.generate((prompt_tokens, prompt_lengths))
            tokens, totals = output["response_tokens"].tolist(), output["response_lengths"].tolist()
            for i, row in enumerate(rows):
                found[row.prompt, row.number] = read_completion(
                    tokens[i], len(ids[row.prompt]), totals[i], row.limit, eos, self.pieces, params.stop
                )
        return found

    def _stop_words(self, stop: Sequence[str]) -> list[list[int]]:
        """Tokens at which the engine may end a row: each spells a stop string exactly."""
        words = []
        for string in stop:
            try:
                words.append(encode_continuation(self.tokenizer, self.pieces, string))
            except DataError:  # the tokenizer cannot spell it; the text is searched all the same
                continue
        return [word for word in words if word]

    def load(self, checkpoint: Path, name: str) -> None:
        """See `LocalGenerator`; then the engine gets the weights."""
        super().load(checkpoint, name)
        try:
            self._engine.refit(self.model.model)
        except BaseException:
            # The engine may now hold weights of two checkpoints: it must not answer for either.
            self._broken = f"the engine could not take the weights of {checkpoint}; start the server anew"
            raise
