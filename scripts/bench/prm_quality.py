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
"""How well does a PRM know good lines from bad ones? Scores a label store that it was not trained on.

    python scripts/bench/prm_quality.py PRM.nemo labels.jsonl

Prints the mean squared error, that of the best constant, and the area under the ROC curve of line scores (labels +1
against -1; neutral lines left out): over all lines; of the line number alone, as a baseline (early lines are good more
often); and within a line number (mean over the first eight), which the line number cannot help with.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nemo_prm.data.manifest import read_labels
from nemo_prm.megatron import compat
from nemo_prm.megatron.checkpoint import check_nemo

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
LINES = 8


def area_under_roc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Chance that a good line scores above a bad one; NaN without either."""
    if not good or not bad:
        return float("nan")
    return sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prm", type=Path)
    parser.add_argument("labels", type=Path)
    arguments = parser.parse_args()
    check_nemo(arguments.prm)
    rows = read_labels(arguments.labels)

    compat.apply()
    import torch

    from nemo_prm.megatron import host
    from nemo_prm.megatron.losses import IGNORE
    from nemo_prm.megatron.prm import MegatronGPTPRM
    from nemo_prm.megatron.prm_dataset import PRMDataset

    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("serve_reward", [f"checkpoint={arguments.prm.resolve()}"])
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.prepare_for_inference()

    lines: list[tuple[int, float, float]] = []  # number of the line, score, label
    with torch.no_grad():
        dataset = PRMDataset(rows, loaded.model.tokenizer, cfg.model.encoder_seq_length)
        for tokens, labels in dataset.items:
            scores = loaded.model.infer((torch.tensor([tokens]), torch.tensor([len(tokens)])))[0].tolist()
            ends = [position for position, label in enumerate(labels) if label != IGNORE]
            lines += [(n, scores[p], labels[p]) for n, p in enumerate(ends) if labels[p] != 0]

    mean = sum(label for *_, label in lines) / len(lines)
    by_line: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for number, score, label in lines:
        by_line[number][label < 0].append(score)
    within = [area_under_roc(*by_line[n]) for n in range(LINES) if all(by_line[n])]
    print(f"responses                  {len(dataset)}, lines {len(lines)}")
    print(f"mean squared error         {sum((s - label) ** 2 for _, s, label in lines) / len(lines):.3f}")
    print(f"  of the best constant     {sum((mean - label) ** 2 for *_, label in lines) / len(lines):.3f}")
    good, bad = ([s for _, s, label in lines if (label > 0) is wanted] for wanted in (True, False))
    print(f"AUC of line scores         {area_under_roc(good, bad):.3f}")
    good, bad = ([-n for n, _, label in lines if (label > 0) is wanted] for wanted in (True, False))
    print(f"  of the line number alone {area_under_roc(good, bad):.3f}")
    print(f"  within a line number     {sum(within) / len(within) if within else float('nan'):.3f}")


if __name__ == "__main__":
    main()
