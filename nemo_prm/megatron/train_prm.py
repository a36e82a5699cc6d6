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
"""Train the PRM with the host's SupervisedTrainer on the label rows that `select_data` wrote."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from megatron.core import parallel_state
from nemo.utils import logging
from omegaconf import DictConfig, open_dict

from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.data.rows import read_label_rows
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.megatron import host
from nemo_prm.megatron.lora import add_lora
from nemo_prm.megatron.lora_options import check_peft
from nemo_prm.megatron.losses import Loss
from nemo_prm.megatron.prm import MegatronGPTPRM
from nemo_prm.megatron.prm_dataset import PRMDataset, collate_prm
from nemo_prm.megatron.prm_sampler import LengthBucketSampler
from nemo_prm.megatron.prm_validation import PRMTrainer


def train_prm(cfg: DictConfig) -> Path:
    """Train, saving as the host does, and publish `<output>/prm.nemo`: the best by first-error F1, else the last.

    Args:
        cfg: `conf/train_prm.yaml`.

    Returns:
        The path of the PRM.

    Raises:
        CheckpointError: `policy` is no `.nemo` checkpoint.
        ConfigError: a loss of another name, or a batch that the ranks cannot share.
        DataError: no rows, or none that fits the model's context.
    """
    if cfg.model.prm_loss not in get_args(Loss):
        raise ConfigError(f"loss must be one of {', '.join(get_args(Loss))}, got {cfg.model.prm_loss!r}")
    check_peft(cfg.model.peft)
    data = Path(cfg.data)
    train_rows, validation_rows = (read_label_rows(data / f"{name}.jsonl") for name in ("train", "validation"))
    if not train_rows:
        raise DataError(f"{data / 'train.jsonl'} holds no label row: select other data (select_data strategy=...)")
    fit_batch_size(cfg, len(train_rows))
    host.check_batch_size(cfg)

    loaded = host.load(cfg, "rm", MegatronGPTPRM, new_head=cfg.new_head)
    if cfg.model.peft.peft_scheme == "lora":
        add_lora(loaded.model, cfg.model)
    state = host.resume_state(loaded)
    host.initialise(loaded, cfg)
    settings = {name: _digest(data / f"{name}.jsonl") for name in ("train", "validation")} | {
        "loss": cfg.model.prm_loss
    }
    _refuse_other_run(Path(cfg.output) / "checkpoints" / "trained_on.json", settings, resumes=state is not None)

    tokenizer, context = loaded.model.tokenizer, cfg.model.encoder_seq_length
    train_set = PRMDataset(train_rows, tokenizer, context)
    validation_set = PRMDataset(validation_rows, tokenizer, context)
    if len(train_set) < cfg.model.global_batch_size:
        raise DataError(
            f"{len(train_set)} of {len(train_rows)} label rows fit into the model's {context} tokens, fewer than one "
            "batch: set model.global_batch_size and model.micro_batch_size, or label shorter responses"
        )
    sampler = LengthBucketSampler(
        [len(tokens) for tokens, _ in train_set.items],
        consumed_samples=state["consumed_samples"] if state else 0,
        micro_batch_size=cfg.model.micro_batch_size,
        global_batch_size=cfg.model.global_batch_size,
        data_parallel_rank=parallel_state.get_data_parallel_rank(),
        data_parallel_size=parallel_state.get_data_parallel_world_size(),
        drop_last=True,
        seed=cfg.model.seed,
    )
    train_dataloader = torch.utils.data.DataLoader(
        train_set,
        batch_sampler=sampler,
        num_workers=cfg.model.data.num_workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=partial(collate_prm, eos_id=tokenizer.eos_id, multiple=loaded.model.length_multiple),
    )
    if not len(validation_set):
        logging.warning("no validation rows: training without validation, the last checkpoint is the PRM")
        with open_dict(cfg):
            cfg.trainer.rm.limit_val_batches = 0

    optimization = host.optimization(loaded, cfg, train_dataloader, train_set)
    trainer = PRMTrainer(
        output=Path(cfg.output),
        cfg=cfg.trainer.rm,
        model=loaded.model,
        train_dataloader=train_dataloader,
        val_dataloader=validation_set,
        test_dataloader=None,
        logger=loaded.logger,
        **optimization._asdict(),
    )
    if state is not None:
        trainer.load_state_dict(state)
    trainer.fit()

    target = Path(cfg.output) / "prm.nemo"
    host.publish_nemo(loaded, cfg, target, trainer.step >= trainer.max_steps, trainer.best_checkpoint)
    return target


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_other_run(path: Path, settings: dict[str, str], resumes: bool) -> None:
    """Keep what a run is of beside its checkpoints; collective.

    Raises:
        ConfigError: its checkpoints are of something else.
    """
    known = read_json(path) if resumes and path.exists() else settings
    if other := [name for name in settings if settings[name] != known.get(name)]:
        raise ConfigError(f"{path.parent} is of a run with another {', '.join(other)}: choose another output")
    torch.distributed.barrier()  # every rank has looked
    if torch.distributed.get_rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


def fit_batch_size(cfg: Any, num_rows: int) -> None:
    """Shrink the global batch, in place, where there are fewer rows than one batch holds: small files train too."""
    data_parallel = host.data_parallel_size(cfg)
    if num_rows >= cfg.model.global_batch_size:
        return
    micro = min(cfg.model.micro_batch_size, max(num_rows // data_parallel, 1))
    with open_dict(cfg):
        cfg.model.micro_batch_size = micro
        cfg.model.global_batch_size = max(num_rows // (micro * data_parallel), 1) * micro * data_parallel
    logging.warning(f"{num_rows} rows: global batch shrunk to {cfg.model.global_batch_size}")
