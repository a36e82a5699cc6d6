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
"""Metrics of a run: JSON lines always, TensorBoard and W&B when asked. Set-up may crash, logging never does."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Mapping

from nemo_prm.errors import ConfigError


def finite_or_null(value: Any) -> Any:
    """Copy `value` with every NaN and infinity replaced by None, which is what JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # float() also strips numpy's subclass
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):  # a zero-dimensional tensor or array, without importing either library
        return finite_or_null(value.item())
    return str(value)


class MetricsLogger:
    """Appends one JSON object a call to `<directory>/metrics.jsonl`, and mirrors the numbers where asked.

    Args:
        directory: made when missing.
        enabled: pass `rank == 0`; a disabled logger touches nothing.
        tensorboard: also write event files into `directory`.
        wandb_project: also log to this W&B project.

    Raises:
        ConfigError: a library that was asked for is not installed.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        enabled: bool = True,
        tensorboard: bool = False,
        wandb_project: str | None = None,
    ) -> None:
        self.path = Path(directory) / "metrics.jsonl"
        self._file = self._tensorboard = self._wandb = None
        self._warned: set[str] = set()
        if not enabled:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            self._tensorboard = _tensorboard_writer(self.path.parent)
        if wandb_project is not None:
            self._wandb = _wandb_run(wandb_project, self.path.parent)
        self._file = self.path.open("a", encoding="utf-8")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write `metrics` at `step`. A sink that fails is reported once on stderr; the run goes on."""
        if self._file is None:
            return
        # Whatever a sink raises (full disk, lost network, an odd value), a training run must survive it.
        try:
            row = finite_or_null(metrics)
            self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **row}) + "\n")
            self._file.flush()
        except Exception as error:
            self._warn("metrics.jsonl", error)
        if self._tensorboard is not None:
            try:
                for name, value in metrics.items():
                    if not isinstance(value, (str, bytes)) and value is not None:
                        self._tensorboard.add_scalar(name, float(value), step)
            except Exception as error:
                self._warn("TensorBoard", error)
        if self._wandb is not None:
            try:
                self._wandb.log(dict(metrics), step=step)
            except Exception as error:
                self._warn("W&B", error)

    def close(self) -> None:
        """Finish all sinks; later calls of `log` do nothing."""
        sinks = ((self._file, "close"), (self._tensorboard, "close"), (self._wandb, "finish"))
        self._file = self._tensorboard = self._wandb = None
        for sink, method in sinks:
            try:
                if sink is not None:
                    getattr(sink, method)()
            except Exception as error:
                self._warn(method, error)

    def _warn(self, sink: str, error: Exception) -> None:
        if sink not in self._warned:
            self._warned.add(sink)
            print(f"warning: metrics are not written to {sink}: {error!r}", file=sys.stderr, flush=True)


def _tensorboard_writer(directory: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"TensorBoard was asked for but cannot be imported ({error}); install tensorboard."
        ) from error
    return SummaryWriter(str(directory))


def _wandb_run(project: str, directory: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(f"W&B was asked for but cannot be imported ({error}); install wandb.") from error
    return wandb.init(project=project, dir=str(directory))
