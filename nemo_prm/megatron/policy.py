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
"""A policy's weights: a Megatron GPT for inference from a `.nemo`, and another checkpoint's weights put into it."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
from nemo.utils import logging
from nemo_aligner.utils.train_script_utils import init_distributed
from nemo_aligner.utils.utils import load_and_override_model_config, load_from_nemo
from omegaconf import OmegaConf
from torch.distributed.checkpoint.api import CheckpointException

from nemo_prm.errors import CheckpointError
from nemo_prm.megatron.checkpoint import check_policy

DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


def load_policy(checkpoint: Path, tensor_parallel: int = 1, precision: str = "auto") -> MegatronGPTModel:
    """Load a policy for inference; collective, every rank calls it. Needs `compat.apply()` before this import.

    Raises:
        CheckpointError: no `.nemo`, or one of a model with a scalar head in place of a vocabulary.
    """
    check_policy(checkpoint)
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
    model = _restore(checkpoint, trainer, {"tensor_model_parallel_size": tensor_parallel, "precision": precision})
    init_distributed(trainer, model, model.cfg.get("transformer_engine", False))
    model.freeze()
    model.model.to(DTYPES[precision])
    if torch.cuda.is_available():
        model.model.cuda()
    return model


def reload_weights(model: MegatronGPTModel, checkpoint: Path) -> None:
    """Replace the weights of a loaded policy by those of another checkpoint of its architecture; collective.

    They are read into a second model in the CPU's memory: until all ranks have them, nothing changes.

    Raises:
        CheckpointError: a rank cannot read them; the old weights stay.
    """
    settings = {
        "tensor_model_parallel_size": model.cfg.tensor_model_parallel_size,
        "precision": model.cfg.precision,
        "use_cpu_initialization": True,
        # Megatron has one number of microbatches in a process, and PPO saves others than pre-training
        "micro_batch_size": model.cfg.micro_batch_size,
        "global_batch_size": model.cfg.global_batch_size,
    }
    weights: dict[str, Any] = {}
    failure = None
    try:
        weights = _restore(checkpoint, model.trainer, settings).model.state_dict()
    except (Exception, CheckpointException) as error:
        # A damaged checkpoint raises whatever tarfile, pickle, torch (no Exception, its own) or Megatron raise, and
        # every rank has to hear of it.
        logging.error(f"the weights of {checkpoint} cannot be read\n{traceback.format_exc()}")
        failure = (str(error).splitlines() or [""])[-1].strip() or type(error).__name__
    failures = [failure]
    if torch.distributed.get_world_size() > 1:
        failures = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(failures, failure)
    failed = [reason for reason in failures if reason]
    if failed:
        raise CheckpointError(f"the weights of {checkpoint} cannot be read: {failed[0]}")
    model.model.load_state_dict(weights)


def _restore(checkpoint: Path, trainer: Trainer, settings: dict[str, Any]) -> MegatronGPTModel:
    overrides = settings | {
        "pipeline_model_parallel_size": 1,
        "sequence_parallel": False,  # a step feeds one token per row: nothing to split
        "activations_checkpoint_granularity": None,
        "activations_checkpoint_method": None,
        "megatron_amp_O2": False,
    }
    config = load_and_override_model_config(str(checkpoint), OmegaConf.create(overrides))
    return load_from_nemo(MegatronGPTModel, config, trainer, strict=True, restore_path=str(checkpoint))
