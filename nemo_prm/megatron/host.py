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
"""Setting up the host: a Lightning trainer, a model from a `.nemo`, its optimizer and checkpoint callback.

The steps are those of NeMo-Aligner's example scripts (`examples/nlp/gpt/train_reward_model.py` of release 0.7.0),
which are not part of its package. Import this module only after `compat.apply()`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import psutil
import torch
from lightning.pytorch import Trainer
from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.exp_manager import exp_manager
from nemo_aligner.utils.distributed import Timer
from nemo_aligner.utils.train_script_utils import (
    CustomLoggerWrapper,
    add_custom_checkpoint_callback,
    extract_optimizer_scheduler_from_ptl_model,
    init_distributed,
    init_using_ptl,
    resolve_and_create_trainer,
    retrieve_custom_trainer_state_dict,
)
from nemo_aligner.utils.utils import (
    extract_value_from_ckpt,
    load_and_override_model_config,
    load_from_nemo,
    set_autocast_gpu_dtype,
)
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_prm.errors import CheckpointError, ConfigError
from nemo_prm.megatron.checkpoint import check_nemo, has_reward_head
from nemo_prm.megatron.head import reset_head
from nemo_prm.metrics import MetricsLogger

# keys that the host reads without a default, for checkpoints whose config is shorter than those of its examples
EXPECTED_KEYS = {
    "activations_checkpoint_granularity": None,
    "activations_checkpoint_method": None,
    "activations_checkpoint_num_layers": None,
    "activations_checkpoint_layers_per_pipeline": None,
    "dist_ckpt_format": "torch_dist",
    "gradient_as_bucket_view": True,
    "sequence_parallel": False,
}


class Host(NamedTuple):
    """What the host's trainers are built from."""

    trainer: Trainer
    model: Any
    logger: CustomLoggerWrapper


class ProcessTimer(Timer):
    """The host's clock of a run, counting from the start of the process.

    The host counts from the start of `fit`, so that loading comes on top, and anew at every pass over the data, so
    that on a small set the limit is never reached.
    """

    def start_time(self) -> None:
        self._start_time = time.monotonic() - (time.time() - psutil.Process().create_time())


class Optimization(NamedTuple):
    optimizer: Any
    scheduler: Any
    ckpt_callback: Any
    run_timer: Timer


def load(cfg: DictConfig, algorithm: str, model_class: type, new_head: bool = False) -> Host:
    """Build the trainer and load the model named by `cfg.pretrained_checkpoint.restore_from_path`.

    Args:
        cfg: the host's config tree; `cfg.model` is merged over the config inside the checkpoint, in place.
        algorithm: the key of `cfg.trainer` with the algorithm's own settings ("rm", "ppo").
        model_class: what to load the checkpoint as.
        new_head: give the model a new scalar head even where the checkpoint has one; the seed is `model.seed`.

    Raises:
        CheckpointError: the path is no `.nemo` checkpoint.
    """
    path = str(cfg.pretrained_checkpoint.restore_from_path)
    check_nemo(Path(path))
    with _reading(path), open_dict(cfg):
        cfg.model = load_and_override_model_config(path, cfg.model)
        cfg.model = OmegaConf.merge(EXPECTED_KEYS, cfg.model)
    trainer = resolve_and_create_trainer(cfg, algorithm)
    if cfg.exp_manager:
        _settle_checkpoints(Path(cfg.exp_manager.explicit_log_dir) / "checkpoints")
    exp_manager(trainer, cfg.exp_manager)
    logger = CustomLoggerWrapper([*trainer.loggers, *_json_lines(cfg, trainer)])
    set_autocast_gpu_dtype(cfg.trainer.precision)
    base_only = _has_scalar_head(model_class) and (new_head or not has_reward_head(Path(path)))
    with _reading(path):
        model = load_from_nemo(
            model_class, cfg.model, trainer, strict=True, load_base_model_only=base_only, restore_path=path
        )
    if base_only:
        reset_head(model, cfg.model.get("seed", 1234))
    return Host(trainer, model, logger)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): is it a copy that was cut short?") from error


def data_parallel_size(cfg: DictConfig) -> int:
    """How many data-parallel ranks the config asks for; usable before the process group exists."""
    model_parallel = cfg.model.tensor_model_parallel_size * cfg.model.pipeline_model_parallel_size
    return max(cfg.trainer.devices * cfg.trainer.num_nodes // model_parallel, 1)


def check_batch_size(cfg: DictConfig) -> None:
    """Refuse what the host ends with a bare error, after everything is loaded.

    Raises:
        ConfigError: the global batch cannot be dealt out.
    """
    model, ranks = cfg.model, data_parallel_size(cfg)
    if model.global_batch_size % (model.micro_batch_size * ranks):
        raise ConfigError(
            f"model.global_batch_size={model.global_batch_size} must be a multiple of model.micro_batch_size="
            f"{model.micro_batch_size} on {ranks} data-parallel ranks"
        )


def initialise(host: Host, cfg: DictConfig) -> None:
    """Join the process group; collective, every rank calls it."""
    init_distributed(host.trainer, host.model, cfg.model.get("transformer_engine", False))


def optimization(host: Host, cfg: DictConfig, train_dataloader: Any = None, dataset: Any = None) -> Optimization:
    """Set up Lightning's state, the optimizer and scheduler, the checkpoint callback and the run's clock."""
    init_using_ptl(host.trainer, host.model, train_dataloader, dataset)
    optimizer, scheduler = extract_optimizer_scheduler_from_ptl_model(host.model)
    callback = add_custom_checkpoint_callback(host.trainer, host.model)
    host.logger.log_hyperparams(OmegaConf.to_container(cfg))
    return Optimization(optimizer, scheduler, callback, ProcessTimer(cfg.exp_manager.get("max_time_per_run")))


def resume_state(host: Host) -> dict[str, Any] | None:
    """Step and consumed samples of the checkpoint that `exp_manager` found to resume from; None for a fresh run."""
    return retrieve_custom_trainer_state_dict(host.trainer) if host.trainer.ckpt_path is not None else None


LAST, PREVIOUS = "checkpoints/*-last", "previous_checkpoint/*-last"


def kept_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run that keeps two, latest first.

    Args:
        folder: `checkpoints` in the run's output.
    """
    paths = sorted(folder.parent.glob(LAST), key=_step, reverse=True)
    paths += sorted(folder.parent.glob(PREVIOUS), key=_step, reverse=True)
    return [path for path in paths if not NeMoModelCheckpoint.is_checkpoint_unfinished(path)]


@contextlib.contextmanager
def keeping_the_previous(callback: Any) -> Iterator[None]:
    """Around a save: the last checkpoint moves to `previous_checkpoint` where the host deletes it; collective.

    A save that fails, as where the disk is full, leaves nothing: the next one would get another name beside it.

    Args:
        callback: of the checkpoints.
    """
    path = str(getattr(callback, "last_model_path", ""))
    former = Path(path.removesuffix(".ckpt"))
    kept = bool(path) and former.is_dir()
    if kept:
        callback.last_model_path = ""  # what the host deletes once the new one is there
    try:
        yield
    except BaseException:
        callback.last_model_path = path
        _drop_unfinished(Path(callback.dirpath))
        raise
    if kept and torch.distributed.get_rank() == 0:
        _make_previous(former)
    torch.distributed.barrier()


def return_to(trainer: Trainer, callback: Any, path: Path) -> Path:
    """Restore model, optimizer and schedule from one of the `kept_checkpoints`, and forget the later one; collective.

    Returns:
        Where the checkpoint is now: it is the last one.
    """
    target = path.parents[1] / "checkpoints" / path.name
    if torch.distributed.get_rank() == 0 and path != target:
        for later in target.parent.glob("*-last"):
            shutil.rmtree(later)
        path.rename(target)
    torch.distributed.barrier()
    connector = trainer._checkpoint_connector
    connector.resume_start(str(target))
    connector.restore_model()
    connector.restore_training_state()
    connector.resume_end()
    _, scheduler = extract_optimizer_scheduler_from_ptl_model(trainer.lightning_module)
    scheduler.step(scheduler.last_epoch)  # puts the restored learning rate into the optimizer, as init_using_ptl does
    callback.last_model_path = str(target)
    return target


def _settle_checkpoints(folder: Path) -> None:
    """After a kill in the middle of a save: drop what is unfinished, and keep one last checkpoint.

    The host refuses to resume from an unfinished one where it is alone, and from two. Every rank may call this.
    """
    _drop_unfinished(folder)
    for former in [path for path in kept_checkpoints(folder) if path.parent == folder][1:]:
        with contextlib.suppress(FileNotFoundError):  # another rank was faster
            _make_previous(former)


def _drop_unfinished(folder: Path) -> None:
    for marker in folder.glob("*-unfinished"):
        unfinished = marker.with_name(marker.name.removesuffix("-unfinished"))
        garbage = marker.with_name(f"{marker.name}-garbage")
        with contextlib.suppress(FileNotFoundError):  # another rank was faster, or it is no folder yet
            unfinished.rename(garbage)
        marker.unlink(missing_ok=True)
        shutil.rmtree(garbage, ignore_errors=True)


def _make_previous(checkpoint: Path) -> None:
    target = checkpoint.parents[1] / Path(PREVIOUS).parent / checkpoint.name
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    checkpoint.rename(target)
    for older in target.parent.iterdir():
        if older != target:
            shutil.rmtree(older, ignore_errors=True)


def _step(checkpoint: Path) -> int:
    return extract_value_from_ckpt("step", checkpoint.name)


def publish_nemo(host: Host, cfg: DictConfig, target: Path, finished: bool, best: Path | None = None) -> None:
    """Put the trained model at `target`; collective.

    The checkpoint callback writes a `.nemo` when training ends. Where a run was ended between its last checkpoint and
    that file, or saves no checkpoints, the model is saved from here.

    Args:
        host: the model as it is now.
        cfg: the host's config tree.
        target: where users look for the result.
        finished: whether the trainer has reached its last step.
        best: a `.nemo` to take in place of the last model, where it exists.

    Raises:
        CheckpointError: training stopped before its end (its time was up); the next start resumes it.
    """
    if not finished:
        raise CheckpointError(
            f"training stopped before its end, so there is no new {target}: start it again to resume"
        )
    source = Path(cfg.exp_manager.explicit_log_dir) / "checkpoints" / f"{cfg.exp_manager.name}.nemo"
    keep = best is not None and best.exists()
    source = best if best is not None and keep else source
    torch.distributed.barrier()
    if source.exists():
        torch.distributed.barrier()  # every rank has looked
        if torch.distributed.get_rank() == 0:
            _publish(source, target, keep)
    elif not target.exists():
        host.model.save_to(str(target))
    torch.distributed.barrier()


def _publish(source: Path, target: Path, keep: bool) -> None:
    """Move a file, or give it a second name (where the file system has none: a copy)."""
    if keep:
        copy = target.with_name(f"{target.name}.partial")
        copy.unlink(missing_ok=True)
        try:
            os.link(source, copy)
        except OSError:
            shutil.copyfile(source, copy)
        source = copy
    os.replace(source, target)


class JSONLinesLogger:
    """Lightning's logging call, written to `metrics.jsonl`."""

    def __init__(self, metrics: MetricsLogger) -> None:
        self.metrics = metrics

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        self.metrics.log(metrics, step)


def _json_lines(cfg: DictConfig, trainer: Trainer) -> list[JSONLinesLogger]:
    if not cfg.exp_manager:
        return []
    return [JSONLinesLogger(MetricsLogger(cfg.exp_manager.explicit_log_dir, enabled=trainer.is_global_zero))]


def _has_scalar_head(model_class: type) -> bool:
    from nemo_aligner.models.nlp.gpt.megatron_gpt_reward_model import MegatronGPTRewardModel

    return issubclass(model_class, MegatronGPTRewardModel)
