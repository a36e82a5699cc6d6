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
"""Selects labelled responses to train a PRM: `python scripts/select_data.py 'labels=[labels.jsonl]' output=folder`"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import SelectDataConfig
from nemo_prm.entry import script


@script(SelectDataConfig)
def main(config: SelectDataConfig) -> None:
    from nemo_prm.data.jsonl import write_json, write_jsonl
    from nemo_prm.data.manifest import read_labels
    from nemo_prm.data.problems import load_problems
    from nemo_prm.data.rows import check_distinct, label_row_to_json
    from nemo_prm.data.selection import (
        STRATEGIES,
        Split,
        refuse_problems,
        select,
        selection_manifest,
        split_by_problem,
        summarize,
    )
    from nemo_prm.data.thoughts import check_inputs, prm_rows
    from nemo_prm.errors import DataError

    stores = [(path, read_labels(path)) for path in config.labels]
    check_distinct(stores)
    rows = [row for _, entries in stores for row in entries]
    for source in config.exclude_problems:
        refuse_problems(rows, load_problems(source, general=True), source)
    selected = select(rows, config.strategy)
    split = split_by_problem(selected, config.validation_share, config.seed)
    inputs = check_inputs(config.inputs)
    made = Split(*([row for each in part for row in prm_rows(each, inputs, config.per_thought)] for part in split))
    if not made.train:
        raise DataError(f"inputs={inputs} needs rows of thoughts (label steps=thoughts think=true), found none")
    output = Path(config.output)
    (output / "manifests").mkdir(parents=True, exist_ok=True)
    summary = {
        "strategy": config.strategy,
        "inputs": inputs,
        "labels": list(config.labels),
        "available": summarize(rows),
    }
    (output / "summary.json").unlink(missing_ok=True)  # it comes last: without it the files may be of two selections
    for name, part in made._asdict().items():
        write_jsonl(output / f"{name}.jsonl", map(label_row_to_json, part))
        summary[name] = summarize(part)
    for name in STRATEGIES:
        content = selection_manifest(rows, name, config.validation_share, config.seed)
        origin = {"labels": list(config.labels), "exclude_problems": list(config.exclude_problems)}
        write_json(output / "manifests" / f"{name}.json", {**origin, **content})
    write_json(output / "summary.json", summary)
    print(
        f"{output}: {config.strategy} selects {len(selected)} of {len(rows)} responses, "
        f"{len(split.train)} to train on and {len(split.validation)} to validate"
        + (f", {len(made.train)} and {len(made.validation)} inputs {inputs}" if inputs != "lines" else "")
    )


if __name__ == "__main__":
    main()
