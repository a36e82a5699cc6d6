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
"""Import, run and export tiny models with random weights, each step in forks of a process that has imported the stack.

python try_huggingface.py FOLDER    writes FOLDER/result.json, see `main`
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, Callable

from torchrun import rank_environments

from nemo_prm import supervisor

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["def add(a, b):\n    return a + b\n", "é\n\n\n    x = 1\n"]
SIZES = {
    "vocab_size": 301,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rms_norm_eps": 1e-5}),
    "llama_gqa": (
        "llama",
        {
            "num_key_value_heads": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "rope_theta": 100000.0,
            "head_dim": 16,
        },
    ),
    "llama_tied": ("llama", {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}),
    "qwen2": ("qwen2", {"num_key_value_heads": 1, "rope_theta": 1000000.0}),
    "qwen2_tied": ("qwen2", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
}


def fork(function: Callable[[], None], log: Path, ranks: int = 1) -> None:
    pids = []
    for environment in rank_environments(ranks):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.environ |= environment
        function()
        os._exit(0)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    for pid in supervisor.descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    if any(codes):
        sys.exit(f"ended with {codes}:\n{log.read_text()[-4000:]}")


def script(name: str, *overrides: str) -> None:
    path = ROOT / "scripts" / f"{name}.py"
    sys.argv = [str(path), *overrides]
    runpy.run_path(str(path), run_name="__main__")


def make(folder: Path, family: str, settings: dict[str, Any], tokens: Path) -> None:
    """A model folder of random weights, norms and biases included, in two shards; the right logits, and tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 10, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.chat_template = "{{ messages[0]['content'] }}"
    fast.save_pretrained(folder)

    torch.manual_seed(1)
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](**SIZES | settings)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=config.torch_dtype or torch.float32)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.normal_(1.0, 0.3)
    model.save_pretrained(folder, max_shard_size="60KB")
    ids = torch.tensor([fast.encode(TEXTS[0])[:12] * 2])
    torch.save({"ids": ids, "logits": model.float()(ids).logits.detach()}, tokens)


def run(nemo: Path, data: Path, result: Path, tensor_parallel: int = 1) -> None:
    """Difference of the policy's logits from the right ones, and its tokens of the texts."""
    import torch

    from nemo_prm.megatron.policy import load_policy

    expected = torch.load(data)
    ids = expected["ids"]
    model = load_policy(nemo, tensor_parallel, "32")
    length = ids.size(1)
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)[None, None]
    with torch.no_grad():
        logits = model.model(ids, torch.arange(length)[None], mask, labels=None).contiguous()
    if tensor_parallel > 1:
        parts = [torch.empty_like(logits) for _ in range(tensor_parallel)]
        torch.distributed.all_gather(parts, logits)
        logits = torch.cat(parts, dim=-1)
    wanted = expected["logits"]
    difference = (logits[..., : wanted.size(-1)] - wanted).abs().max().item()
    if torch.distributed.get_rank() == 0:
        spread = wanted.std().item()
        tokens = [model.tokenizer.text_to_ids(text) for text in TEXTS]
        end = model.tokenizer.eos_id
        result.write_text(json.dumps({"difference": difference, "spread": spread, "tokens": tokens, "eos": end}))


def main(folder: Path) -> None:
    import hydra.main  # noqa: F401
    import torch

    torch.set_num_threads(1)
    import transformers  # noqa: F401

    from nemo_prm.megatron import compat

    compat.apply()
    import nemo_prm.megatron.huggingface
    import nemo_prm.megatron.train_prm  # noqa: F401

    supervisor.become_subreaper()  # the host's queue of checkpoint saves outlives a process that does not end as usual
    for name in CASES:
        try_case(folder, name)
    tokens = folder / "llama_gqa.pt"
    fork(lambda: run(folder / "llama_gqa.nemo", tokens, folder / "two.json", 2), folder / "two.log", 2)
    options = [f"data={folder / 'data'}", f"output={folder / 'prm'}", "trainer.rm.max_steps=2"]
    policy = folder / "qwen2.nemo"
    fork(lambda: script("train_prm", f"policy={policy}", *options), folder / "prm.log")


def try_case(folder: Path, name: str) -> None:
    source, log = folder / name, folder / f"{name}.log"
    nemo, data, result = (folder / f"{name}.{kind}" for kind in ("nemo", "pt", "json"))
    fork(lambda: make(source, *CASES[name], data), log)
    fork(lambda: script("import_hf", f"model_folder={source}", f"output={nemo}"), log)
    fork(lambda: run(nemo, data, result), log)
    fork(lambda: script("export_hf", f"checkpoint={nemo}", f"output={source}_back", "max_shard_size=60KB"), log)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
