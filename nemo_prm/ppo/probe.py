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
"""Whether the PRM still says what it said: a few responses of the first step are scored again at every step.

The PRM does not learn during PPO, so its drift is 0, or what two batches of a GPU differ by. Another checkpoint behind
the same address, or a server that mixes up the weights of PRM and critic, shows here.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import torch

from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.serving.wire import PRM


class Probe:
    """The responses that are scored again. Rank 0 has them, and tells the others the drift."""

    def __init__(self, path: Path, communicator: Any, num_responses: int) -> None:
        """
        Args:
            path: where they are kept, so that a resumed run goes on with them.
            communicator: a `nemo_prm.ppo.client.Communicator`.
            num_responses: 0 for none.
        """
        self.path, self.communicator, self.num_responses = path, communicator, num_responses
        self.kept: dict[str, Any] | None = read_json(path) if path.exists() else None
        self._asked: Future[Any] | None = None

    def start(self) -> None:
        """Send them to the PRM; returns at once."""
        if self.kept is not None and torch.distributed.get_rank() == 0:
            self._asked = self._ask()

    def drift(self) -> float:
        """Mean distance of the scores from the first ones; NaN where nothing was sent. Collective."""
        drift = math.nan
        if self._asked is not None and self.kept is not None:
            scores = _scores(self._asked.result())
            self._asked = None
            pairs = zip(itertools.chain(*scores), itertools.chain(*self.kept["scores"]))
            drift = float(np.mean([abs(now - then) for now, then in pairs] or [0.0]))
        shared = torch.tensor([drift], dtype=torch.float64, device=torch.cuda.current_device())
        torch.distributed.broadcast(shared, 0)
        return float(shared.item())

    def keep(self, rollout_batch: Mapping[str, torch.Tensor]) -> None:
        """Take the first responses of this rank's share of the first step, unless there are some.

        Args:
            rollout_batch: response_tokens int64 [B, S], prompt_lengths and response_lengths (prompt included) [B].
        """
        if self.kept is not None or not self.num_responses or torch.distributed.get_rank() != 0:
            return
        rows = slice(self.num_responses)
        names = ("response_tokens", "response_lengths", "prompt_lengths")
        tokens, totals, prompts = (rollout_batch[name][rows].tolist() for name in names)
        self.kept = {"tokens": tokens, "total_lengths": totals, "prompt_lengths": prompts}
        self.kept["scores"] = _scores(self._ask().result())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.kept)

    def _ask(self) -> Future[Any]:
        assert self.kept is not None
        data = {
            "tokens": np.array(self.kept["tokens"], dtype=np.int64),
            "sequence_lengths": np.array(self.kept["total_lengths"], dtype=np.int64)[:, None],
            "prompt_lengths": np.array(self.kept["prompt_lengths"], dtype=np.int64)[:, None],
        }
        future: Future[Any] = self.communicator.send_data_to_server(PRM.name, data)
        return future


def _scores(answer: Mapping[str, Any]) -> list[list[float]]:
    """The raw scores of each response's lines."""
    return [row[~np.isnan(row)].tolist() for row in answer["line_scores"]]
