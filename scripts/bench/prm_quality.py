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
"""How well a PRM scores the lines of labelled responses.

    python scripts/bench/prm_quality.py PRM.nemo labels.jsonl

Prints the measures of `nemo_prm.evaluation.step_metrics` for the PRM and its baselines: the best constant; "outcome
only", one score for all lines, the PRM's of the last; a perfect outcome, which scores all lines with the tests'
verdict; and the number of the line (early lines are good more often). The last line is the area under the ROC curve
within a line number (mean over the first eight), which the line number cannot help with.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nemo_prm.data.manifest import read_labels
from nemo_prm.evaluation.step_metrics import (
    ScoredResponse,
    area_under_roc,
    measure,
    validation_report,
)
from nemo_prm.megatron import compat
from nemo_prm.megatron.checkpoint import check_nemo

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
LINES = 8
SHOWN = ("mse", "auc", "accuracy", "first_error_f1", "accuracy_on_correct", "accuracy_on_erroneous", "ece")


def score(prm: Path, labels: Path) -> list[ScoredResponse]:
    """Score the responses that fit into the model's context."""
    check_nemo(prm)
    rows = read_labels(labels)
    compat.apply()
    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM
    from nemo_prm.megatron.prm_dataset import PRMDataset
    from nemo_prm.megatron.prm_validation import score_dataset

    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("serve_reward", [f"checkpoint={prm.resolve()}"])
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.prepare_for_inference()
    data = PRMDataset(rows, loaded.model.tokenizer, cfg.model.encoder_seq_length)
    return list(score_dataset(loaded.model, data))


def line_number_baseline(responses: list[ScoredResponse]) -> list[ScoredResponse]:
    """Every line scored with the mean label of the lines of its number, which only the labels to be told know."""
    by_number: dict[int, list[float]] = defaultdict(list)
    for response in responses:
        for number, label in enumerate(response.labels):
            by_number[number] += [label] if label else []
    means = {number: sum(labels) / len(labels) for number, labels in by_number.items() if labels}
    return [
        response.with_scores(means.get(number, 0.0) for number in range(len(response.labels)))
        for response in responses
    ]


def within_line_numbers(responses: list[ScoredResponse]) -> float:
    """Mean over line numbers of the area under the ROC curve of their lines."""
    lines: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for response in responses:
        for number, line in enumerate(zip(response.scores, response.labels)):
            lines[number] += [line] if line[1] else []
    areas = [area_under_roc([s for s, _ in lines[n]], [label >= 0 for _, label in lines[n]]) for n in range(LINES)]
    known = [area for area in areas if not math.isnan(area)]
    return sum(known) / len(known) if known else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prm", type=Path)
    parser.add_argument("labels", type=Path)
    arguments = parser.parse_args()
    responses = score(arguments.prm, arguments.labels)
    report = validation_report(responses)
    rows = {"PRM": report["model"]}
    rows |= {name.replace("_", " "): report[name] for name in ("constant", "outcome_only", "perfect_outcome")}
    rows["line number"] = measure(line_number_baseline(responses))
    for group in ("by_class", "by_length", "by_difficulty"):
        rows |= {f"PRM, {group.removeprefix('by_')} {name}": found["model"] for name, found in report[group].items()}
    print(f"{len(responses)} responses, {rows['PRM']['lines']} lines\n")
    print(
        f"| | responses | {' | '.join(name.replace('_', ' ') for name in SHOWN)} |\n|---|{'---|' * (len(SHOWN) + 1)}"
    )
    for name, found in rows.items():
        numbers = ["-" if math.isnan(found[key]) else f"{found[key]:.3f}" for key in SHOWN]
        print(f"| {name} | {found['responses']} | {' | '.join(numbers)} |")
    print(f"\nAUC within a line number: {within_line_numbers(responses):.3f}")


if __name__ == "__main__":
    main()
