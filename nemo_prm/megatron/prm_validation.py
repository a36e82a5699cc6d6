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
"""What a PRM is worth, measured while it trains: validation.json, reliability.svg, and the best checkpoint."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Mapping

import torch
from nemo.utils import logging
from nemo_aligner.algorithms.supervised import SupervisedTrainer
from nemo_aligner.utils import parallel_state

from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.errors import CheckpointError, ConfigError
from nemo_prm.evaluation.plots import draw_reliability
from nemo_prm.evaluation.step_metrics import ScoredResponse, validation_report
from nemo_prm.megatron.losses import IGNORE
from nemo_prm.megatron.prm import MegatronGPTPRM
from nemo_prm.megatron.prm_dataset import PRMDataset
from nemo_prm.metrics import finite_or_null

LOGGED = ("mse", "auc", "accuracy", "first_error_f1", "accuracy_on_correct", "accuracy_on_erroneous", "ece")


@torch.no_grad()
def score_dataset(model: MegatronGPTPRM, dataset: PRMDataset, limit: int | None = None) -> list[ScoredResponse]:
    """Score the labelled lines of every row; collective, each data-parallel rank scores its share.

    Args:
        model: in inference mode (`prepare_for_inference`).
        dataset: of label rows.
        limit: only the first rows.

    Returns:
        On every rank, one entry per row, in the order of the dataset.

    Raises:
        CheckpointError: a score is no finite number.
    """
    rank, ranks = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
    count = len(dataset) if limit is None else min(limit, len(dataset))
    mine = sorted(range(rank, count, ranks), key=lambda i: len(dataset.items[i][0]))  # so that padding is short
    scored: dict[int, ScoredResponse] = {}
    size = model.forward_micro_batch_size
    for start in range(0, len(mine), size):
        part = mine[start : start + size]
        items = [dataset.items[i] for i in part]
        lengths = torch.tensor([len(tokens) for tokens, _ in items])
        inputs = torch.full((len(items), int(lengths.max())), dataset.eos_id)
        for row, (tokens, _) in enumerate(items):
            inputs[row, : len(tokens)] = torch.tensor(tokens)
        scores_BS = model.infer((inputs, lengths)).cpu()
        for row, i in enumerate(part):
            labels = dataset.items[i][1]
            ends = [position for position, label in enumerate(labels) if label != IGNORE]
            label_row = dataset.rows[i]
            scored[i] = ScoredResponse(
                tuple(scores_BS[row, ends].tolist()),
                tuple(labels[end] for end in ends),
                label_row.response_class,
                label_row.difficulty or "unknown",
                dataset.response_lengths[i],
                tuple(end in dataset.neutral[i] for end in ends),
            )
    gathered: list[dict[int, ScoredResponse]] = [{} for _ in range(ranks)]
    torch.distributed.all_gather_object(gathered, scored, group=parallel_state.get_data_parallel_group())
    merged = {i: response for part in gathered for i, response in part.items()}
    broken = sum(not all(map(math.isfinite, response.scores)) for response in merged.values())
    if broken:
        raise CheckpointError(
            f"the scores of {broken} of {count} validation rows are no finite numbers: training has diverged, or "
            "activations overflow; go on from an earlier checkpoint with a lower model.optim.lr, or another "
            "trainer.precision"
        )
    return [merged[i] for i in range(count)]


class PRMTrainer(SupervisedTrainer):
    """The host's trainer; its `val_dataloader` is a `PRMDataset`, whose rows `limit_val_batches` counts.

    What is overridden, and why:
        run_validation: the host's mean of batch losses says nothing about lines.
    """

    def __init__(self, *, output: Path, **arguments: Any) -> None:
        """
        Args:
            output: folder of the run.
            arguments: the host's.
        """
        super().__init__(**arguments)
        self.output = output

    @property
    def best_checkpoint(self) -> Path:
        """The PRM with the highest first-error F1 so far; see `_rank` where that does not tell models apart."""
        return self.output / "checkpoints" / "best.nemo"

    @torch.no_grad()
    def run_validation(self) -> tuple[float, dict[str, float]]:
        """Measure the model on the validation rows; collective.

        Returns:
            The mean squared error, and the numbers to log: those of `LOGGED`, and the two baselines' F1.
        """
        self.model.prepare_for_inference()
        responses = score_dataset(self.model, self.val_dataloader, self.limit_val_batches)
        self.model.finish_inference()
        report = validation_report(responses)
        metrics = {name: report["model"][name] for name in LOGGED}
        for baseline in ("constant", "outcome_only"):
            metrics[f"first_error_f1_{baseline}"] = report[baseline]["first_error_f1"]
        best = self._keep_best({name: metrics[name] for name in ("first_error_f1", "auc", "mse")})
        if torch.distributed.get_rank() == 0:
            write_json(self.output / "validation.json", finite_or_null({"step": self.step, "best": best, **report}))
            try:
                draw_reliability(self.output / "reliability.svg", report["reliability"])
            except ConfigError as error:  # no matplotlib
                logging.warning(f"reliability.svg is not drawn: {error}")
        torch.distributed.barrier()
        return metrics["mse"], metrics

    def _keep_best(self, found: dict[str, float]) -> dict[str, Any] | None:
        """Save the model where it is the best so far; says which step's is."""
        # in here, since a run that resumes has the files of its folder moved away by the host
        record = self.best_checkpoint.with_suffix(".json")
        best = read_json(record) if record.exists() else None
        if best is not None and self.best_checkpoint.exists() and _rank(found) <= _rank(best):
            return best
        self.best_checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.best_checkpoint.with_name("best.partial.nemo")
        self.model.save_to(str(partial))
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            os.replace(partial, self.best_checkpoint)
            write_json(record, finite_or_null({"step": self.step, **found}))
        torch.distributed.barrier()
        return {"step": self.step, **found}


def _rank(found: Mapping[str, float | None]) -> tuple[float, float, float]:
    """First-error F1, then AUC, then the error. Rows of one class have no F1, and one of 0 says little."""
    f1, auc, mse = (found.get(name) for name in ("first_error_f1", "auc", "mse"))
    numbers = (f1, auc, None if mse is None else -mse)
    f1, auc, error = (-math.inf if each is None or math.isnan(each) else each for each in numbers)
    return f1, auc, error
