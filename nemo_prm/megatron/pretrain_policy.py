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
"""Pre-train the embedded policy: its tokenizer and a tiny Megatron GPT, by the host's SFT model and trainer.

The loss counts the response and its end-of-text token only. See `nemo_prm.data.embedded.chains` for the texts.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

import torch
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
from nemo.utils import logging
from nemo.utils.exp_manager import exp_manager
from nemo_aligner.algorithms.supervised import SupervisedTrainer
from nemo_aligner.data.nlp.builders import build_dataloader
from nemo_aligner.models.nlp.gpt.gpt_sft_model import GPTSFTModel
from nemo_aligner.utils.train_script_utils import CustomLoggerWrapper, resolve_and_create_trainer
from omegaconf import DictConfig, open_dict

from nemo_prm.data.embedded.chains import policy_texts
from nemo_prm.data.embedded.tokenizer import train_tokenizer
from nemo_prm.data.embedded.traces import thought_texts
from nemo_prm.megatron import host

BUCKET_BATCHES = 16  # this many batches are drawn together and sorted by length, so that a batch needs little padding


class PolicyText(NamedTuple):
    """Token ids of a prompt, and of its response with the end-of-text token."""

    prompt: list[int]
    response: list[int]


def pretrain_policy(cfg: DictConfig) -> Path:
    """Train the tokenizer, then the model, and save `cfg.output` (a `.nemo`).

    Args:
        cfg: `conf/pretrain_policy.yaml`.
    """
    trainer = resolve_and_create_trainer(cfg, "sft")
    exp_manager(trainer, cfg.exp_manager)
    sample = islice(text_stream(cfg, cfg.seed, annotated_share=0.25), cfg.tokenizer_texts)
    tokenizer_path = Path(cfg.model.tokenizer.model)
    train_tokenizer((prompt + response for prompt, response in sample), tokenizer_path, cfg.vocab_size)
    model = GPTSFTModel(cfg.model, trainer)
    loaded = host.Host(trainer, model, CustomLoggerWrapper(trainer.loggers))
    host.initialise(loaded, cfg)

    batch_size = cfg.model.global_batch_size
    texts = draw_texts(cfg, model.tokenizer, batch_size)
    dataloader = build_dataloader(
        cfg=cfg,
        dataset=texts,
        consumed_samples=0,
        mbs=cfg.model.micro_batch_size,
        gbs=batch_size,
        collate_fn=lambda items: collate(items, model.tokenizer.eos_id),
        use_random_sampler=False,  # the texts are drawn at random already, and bucketed
    )
    optimization = host.optimization(loaded, cfg, dataloader, texts)
    SupervisedTrainer(
        cfg=cfg.trainer.sft,
        model=model,
        train_dataloader=dataloader,
        val_dataloader=[],
        test_dataloader=None,
        logger=loaded.logger,
        **optimization._asdict(),
    ).fit()

    output = Path(cfg.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_dict(model.cfg):  # anyone can load it, without NeMo-Aligner
        model.cfg.target = f"{MegatronGPTModel.__module__}.{MegatronGPTModel.__qualname__}"
    model.save_to(str(output))
    logging.info(f"policy: {output}, {output.stat().st_size / 1e6:.1f} MB")
    return output


def text_stream(cfg: DictConfig, seed: int, annotated_share: float) -> Iterator[tuple[str, str]]:
    """Prompts and responses without end."""
    if cfg.texts.thoughts:
        return thought_texts(seed, cfg.texts.slip_scale)
    return policy_texts(seed, cfg.texts.slip_scale, annotated_share)


def draw_texts(cfg: DictConfig, tokenizer: Any, batch_size: int) -> list[PolicyText]:
    """Draw and tokenize all training texts, in the order of training."""
    stream = text_stream(cfg, cfg.seed, cfg.texts.annotated_share)
    rng = random.Random(cfg.seed)
    texts: list[PolicyText] = []
    for count in _bucket_sizes(cfg.trainer.sft.max_steps):
        bucket = [
            PolicyText(tokenizer.text_to_ids(prompt), [*tokenizer.text_to_ids(response), tokenizer.eos_id])
            for prompt, response in islice(stream, count * batch_size)
        ]
        bucket.sort(key=lambda text: len(text.prompt) + len(text.response))
        batches = [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
        rng.shuffle(batches)
        texts += [text for batch in batches for text in batch]
    return texts


def _bucket_sizes(batches: int) -> list[int]:
    whole, rest = divmod(batches, BUCKET_BATCHES)
    return [BUCKET_BATCHES] * whole + [rest] * (rest > 0)


def collate(items: Sequence[PolicyText], eos_id: int) -> dict[str, torch.Tensor]:
    """Pad at the end and shift.

    Returns:
        tokens, labels, position_ids int64 [B, S] and loss_mask float32 [B, S]; the loss counts where the label belongs
        to a response.
    """
    length = max(len(item.prompt) + len(item.response) for item in items)
    tokens = torch.full((len(items), length), eos_id)
    mask = torch.zeros(len(items), length)
    for row, (prompt, response) in enumerate(items):
        end = len(prompt) + len(response)
        tokens[row, :end] = torch.tensor(prompt + response)
        mask[row, len(prompt) : end] = 1.0
    return {
        "tokens": tokens[:, :-1].contiguous(),
        "labels": tokens[:, 1:].contiguous(),
        "loss_mask": mask[:, 1:].contiguous(),
        "position_ids": torch.arange(length - 1).expand(len(items), length - 1),
    }
