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
"""Measures a served PRM on labelled responses: python scripts/evaluate_prm.py 'labels=[labels.jsonl]' output=folder"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import EvaluatePRMConfig
from nemo_prm.entry import script


@script(EvaluatePRMConfig)
def main(config: EvaluatePRMConfig) -> None:
    from nemo_prm.data.jsonl import write_json, write_jsonl
    from nemo_prm.data.manifest import read_labels
    from nemo_prm.errors import DataError
    from nemo_prm.evaluation.prm import as_table, prm_report, score_rows
    from nemo_prm.metrics import finite_or_null
    from nemo_prm.serving.client import RewardClient

    rows = [row for path in config.labels for row in read_labels(path) if row.steps][: config.limit]
    if not rows:
        raise DataError("the labels hold no response with a step")
    with RewardClient(config.reward) as scorer:
        scores = score_rows(rows, scorer, scorer.code_only)
    report = prm_report(rows, scores)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_jsonl(
        output / "scores.jsonl",
        (
            {"problem_id": row.problem_id, "response_id": row.response_id, "scores": each}
            for row, each in zip(rows, scores)
        ),
    )
    settings = {"labels": list(config.labels), "limit": config.limit, "url": config.reward.url}
    write_json(output / "results.json", finite_or_null({**report, "config": settings}))
    print(as_table(report))
    if report["num_unscored"]:
        print(f"{report['num_unscored']} of {len(rows)} responses are left out: their lines share tokens")
    print(output / "results.json")


if __name__ == "__main__":
    main()
