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
"""Writes the HTML report of labelled responses: python scripts/report.py 'labels=[labels.jsonl]' output=report.html"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import ReportConfig
from nemo_prm.entry import script


@script(ReportConfig)
def main(config: ReportConfig) -> None:
    from nemo_prm.data.jsonl import read_json
    from nemo_prm.data.manifest import read_labels
    from nemo_prm.evaluation.ppo_runs import distinct_names, read_run
    from nemo_prm.evaluation.report import render
    from nemo_prm.evaluation.report_items import read_scores, read_search

    summary = read_json(config.summary) if config.summary is not None else None
    rows = [row for path in config.labels for row in read_labels(path)]
    runs = [read_run(Path(path), config.samples, name) for path, name in zip(config.ppo, distinct_names(config.ppo))]
    names = distinct_names(config.search)
    searches = [read_search(Path(path), config.limit, name) for path, name in zip(config.search, names)]
    prm = scores = None
    if config.prm is not None:
        prm, scores = read_json(Path(config.prm) / "results.json"), read_scores(Path(config.prm))
    page = render(rows, config.limit, summary, runs, searches, prm, scores)
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(f"{output}: {min(config.limit, len(rows))} of {len(rows)} responses")


if __name__ == "__main__":
    main()
