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
"""The TensorRT-LLM adapter on NeMo-Aligner's own `GPTGenerateTRTLLM`, with a stand-in for TensorRT-LLM below it.

The stand-in takes what the host passes on and generates with the Megatron model, row by row, each with its own seed.
Results as JSON, beside `MegatronGenerator`'s. A process of its own: it fills `sys.modules` with stand-ins.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.embedded.chains import policy_texts
from nemo_prm.errors import ServerError
from nemo_prm.megatron import compat
from nemo_prm.types import SamplingParams

NEW_TOKENS = 60
CALLS: list[tuple[str, Any]] = []


@dataclass
class SamplingConfig:
    """The fields that the host and the adapter set, of TensorRT-LLM's dataclass of this name."""

    end_id: int
    pad_id: int
    max_new_tokens: int = 20
    output_sequence_lengths: bool = False
    return_dict: bool = False
    stop_words_list: Any = None
    temperature: float = 1.0
    top_k: int = 1
    top_p: float = 0.0
    random_seed: Any = None
    repetition_penalty: float = 1.0

    def update(self, **changes: Any) -> dict[str, Any]:
        for key in changes.keys() & vars(self).keys():
            setattr(self, key, changes[key])
        return {key: value for key, value in changes.items() if key not in vars(self)}


class Decoder:
    """`ModelRunner`: sampling one row at a time, as an engine would each row from its own stream."""

    def __init__(self, generator: Any, max_seq_len: int, max_batch: int) -> None:
        self.generator, self.max_seq_len, self.max_batch = generator, max_seq_len, max_batch

    def generate(self, batch_input_ids: list[Any], sampling_config: Any, streaming: bool) -> dict[str, Any]:
        import torch

        config = copy.deepcopy(sampling_config)
        config.update()
        assert not streaming and config.return_dict and config.output_sequence_lengths
        assert len(batch_input_ids) <= self.max_batch
        longest = max(len(ids) for ids in batch_input_ids) + config.max_new_tokens
        assert longest <= self.max_seq_len, "longer than the engine"
        CALLS.append(
            ("generate", {"rows": len(batch_input_ids), "top_k": config.top_k, "limit": config.max_new_tokens})
        )
        output = torch.full((len(batch_input_ids), 1, longest + 3), config.end_id)
        lengths = torch.zeros(len(batch_input_ids), 1, dtype=torch.int32)
        for row, ids in enumerate(batch_input_ids):
            tokens = self._row(ids.tolist(), config, int(config.random_seed[row]), config.stop_words_list[row])
            lengths[row] = len(tokens)
            tokens = tokens + [7, 7]  # what some engines leave behind the end
            output[row, 0, : len(tokens)] = torch.tensor(tokens)
        return {"output_ids": output, "sequence_lengths": lengths}

    def _row(self, tokens: list[int], config: Any, seed: int, words: Any) -> list[int]:
        import torch
        from megatron.core.inference_params import InferenceParams

        ends = [int(end) for end in words[1] if end >= 0]
        stops = [words[0][start:end].tolist() for start, end in zip([0, *ends], ends)]
        draws = torch.Generator().manual_seed(seed)
        params = SamplingParams(config.temperature, config.top_p, config.top_k)
        from nemo_prm.megatron.sampling import sample_tokens

        cache = InferenceParams(1, len(tokens) + config.max_new_tokens)
        step = torch.tensor([tokens])
        for _ in range(config.max_new_tokens):
            with torch.inference_mode():
                logits = self.generator._forward(step, cache)
            chosen = sample_tokens(logits, torch.rand(1, generator=draws, dtype=torch.float64), params)
            tokens.append(int(chosen))
            if any(tokens[-len(word) :] == word for word in stops):
                break
            step = chosen.unsqueeze(0)
        return tokens


def stand_in(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


def main() -> None:
    compat.apply()
    del sys.modules["nemo_aligner.utils.trt_llm"]  # compat's stand-in, in place of which the host's own is wanted
    import torch
    from nemo.export import trt_llm  # noqa: F401  (the package, which needs no TensorRT-LLM)

    from nemo_prm.megatron.generation import MegatronGenerator
    from nemo_prm.megatron.policy import load_policy

    model = load_policy(policy_path())
    megatron = MegatronGenerator(model, "m", max_batch=7)
    context = types.SimpleNamespace(decoder=None)

    class TensorRTLLM:
        def __init__(self, model_dir: str, load_model: bool) -> None:
            CALLS.append(("exporter", {"folder": Path(model_dir).is_dir(), "load_model": load_model}))

        def build(self, model: Any, **settings: Any) -> None:
            assert model is megatron._gpt
            context.decoder = Decoder(
                megatron, settings["max_input_len"] + settings["max_output_len"], settings["max_batch_size"]
            )
            CALLS.append(
                ("build", {k: settings[k] for k in ("model_type", "max_batch_size", "use_refit", "gpus_per_node")})
            )

        def refit(self, model: Any, model_config: Any) -> None:
            CALLS.append(("refit", model is megatron._gpt))
            if len([call for call in CALLS if call[0] == "refit"]) == 2:
                raise ValueError("Refit failed!")

    stand_in("tensorrt_llm")
    stand_in("tensorrt_llm.runtime", SamplingConfig=SamplingConfig)
    stand_in("nemo.export.tensorrt_llm", TensorRTLLM=TensorRTLLM)
    stand_in("nemo.export.trt_llm.tensorrt_llm_run", tensorrt_llm_worker_context=context, to_word_list_format=None)
    stand_in("nemo.export.trt_llm.nemo_ckpt_loader.nemo_file", build_tokenizer=None)
    torch.cuda.mem_get_info = lambda: (0, 0)
    from nemo_prm.megatron.tensorrt import TensorRTGenerator

    with mock.patch("torch.cuda.current_device", lambda: 0):
        engine = TensorRTGenerator(model, "t", 5, "gptnext")
    prompts = [prompt for (prompt, _), _ in zip(policy_texts(5), range(4))]
    long = megatron.tokenizer.ids_to_text(megatron.tokenizer.text_to_ids(prompts[0] * 60)[:1015])
    prompts.append(long)  # leaves fewer tokens than are asked for
    greedy = SamplingParams(temperature=0.0, max_new_tokens=NEW_TOKENS)
    stopping = SamplingParams(temperature=0.0, max_new_tokens=NEW_TOKENS, stop=(" for", "3]"))
    sampled = SamplingParams(temperature=0.8, top_p=0.9, max_new_tokens=NEW_TOKENS)
    result: dict[str, Any] = {}
    for name, generator in (("engine", engine), ("megatron", megatron)):
        for kind, params in (("greedy", greedy), ("stopping", stopping)):
            result[f"{name} {kind}"] = [asdict(row[0]) for row in generator.generate(prompts, 1, params, 1)]
    at_once = engine.generate(prompts, 6, sampled, 3)
    waves = [engine.generate(prompts, n, sampled, 3, first) for first, n in ((0, 1), (1, 2), (3, 3))]
    result["waves"] = [[c for wave in waves for c in wave[i]] for i in range(len(prompts))] == at_once
    result["texts"] = [[c.text for c in row] for row in at_once]
    result["refused"] = engine.sample([prompts[0] * 90], 1, greedy, [1])
    engine.load(policy_path(), "again")
    result["after"] = engine.generate(prompts, 6, sampled, 3) == at_once and engine.name == "again"
    result["calls"] = list(CALLS)
    with contextlib.suppress(ValueError):  # the second refit fails
        engine.load(policy_path(), "once more")
    try:
        engine.generate(prompts, 1, greedy, 1)
    except ServerError as error:
        result["broken"] = str(error)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
