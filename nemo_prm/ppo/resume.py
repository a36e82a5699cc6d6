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
"""What a run of the host's trainers needs to go on as if it had not ended: random states, and exact counters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Sequence

import torch
from megatron.core.tensor_parallel import get_cuda_rng_tracker
from nemo.utils import logging

from nemo_prm.errors import CheckpointError


class RandomStates:
    """What this rank's random numbers come from: PyTorch's generators and Megatron's tracker, for each checkpoint.

    They lie beside the checkpoints, since a run that resumes has the files of its folder moved away by the host.
    """

    def __init__(self, output: Path) -> None:
        """output: folder of the run."""
        self.folder = output / "checkpoints"
        self._saved = 0  # step of the last checkpoint

    def save(self, step: int) -> None:
        """Write them, before the checkpoint of this step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        states = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(),
            "tracker": get_cuda_rng_tracker().get_states(),
        }
        partial = self._file(step).with_suffix(".partial")
        torch.save(states, partial)
        os.replace(partial, self._file(step))

    def clean(self, step: int) -> None:
        """Keep those of this checkpoint, which is written, and of the one before, which the host removes next."""
        for former in self.folder.glob(self._file("*").name):
            if former not in (self._file(step), self._file(self._saved)):
                former.unlink(missing_ok=True)
        self._saved = step

    def load(self, step: int) -> None:
        """Go on with those of this checkpoint."""
        self._saved = step
        if not self._file(step).exists():
            logging.warning(f"no {self._file(step)}: the run goes on with other random numbers")
            return
        states = torch.load(self._file(step), map_location="cpu", weights_only=True)
        torch.cuda.set_rng_state(states["cuda"])
        torch.set_rng_state(states["cpu"])
        get_cuda_rng_tracker().set_states(states["tracker"])

    def _file(self, step: int | str) -> Path:
        return self.folder / f"random_states-{step}-rank_{torch.distributed.get_rank()}.pt"


def agreed_counters(state_dict: dict[str, Any], names: Sequence[str], folder: Path) -> list[int]:
    """The counters of a checkpoint, which all ranks must have found alike; collective.

    The host compares the ranks' counters as float32, which cannot tell samples apart beyond 2**24: there it refuses a
    good checkpoint.

    Args:
        state_dict: numbers by name, as the host reads them from a checkpoint's name.
        names: those wanted.
        folder: of the checkpoints, for the message.

    Raises:
        CheckpointError: the ranks have found different checkpoints.
    """
    counters = [int(state_dict[name]) for name in names]
    of_rank_0 = torch.tensor(counters, dtype=torch.int64, device=torch.cuda.current_device())
    torch.distributed.broadcast(of_rank_0, 0)
    if counters != of_rank_0.tolist():
        raise CheckpointError(
            f"rank {torch.distributed.get_rank()} resumes from {dict(zip(names, counters))}, but rank 0 from "
            f"{dict(zip(names, of_rank_0.tolist()))}: do all hosts see the same {folder}?"
        )
    return counters


class ResumesExactly:
    """Before a trainer of the host: a checkpoint goes with the random states, and its counters are exact integers."""

    counters: tuple[str, ...]  # of the trainer, which the host keeps in a checkpoint's name

    def __init__(self, *, output: Path, **arguments: Any) -> None:
        """output: folder of the run; arguments: the host's."""
        super().__init__(**arguments)
        self.random_states = RandomStates(output)

    def save(self, extra_candidates: Any = None, is_train_end: bool = False) -> None:
        """The host's, and before it the random states."""
        self.random_states.save(self.step)
        super().save(extra_candidates, is_train_end)
        self.random_states.clean(self.step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, with the random numbers that follow there. Collective.

        Args:
            state_dict: the counters.

        Raises:
            CheckpointError: the ranks have found different checkpoints.
        """
        for name, number in zip(self.counters, agreed_counters(state_dict, self.counters, self.random_states.folder)):
            setattr(self, name, number)
        self.set_max_steps()
        self.random_states.load(self.step)
