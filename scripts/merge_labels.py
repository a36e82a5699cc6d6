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
"""Merges the stores of a job's shards: python scripts/merge_labels.py 'shards=[labels-*.jsonl]' output=labels.json"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import MergeLabelsConfig
from nemo_prm.entry import script


@script(MergeLabelsConfig)
def main(config: MergeLabelsConfig) -> None:
    from nemo_prm.data.jsonl import write_json
    from nemo_prm.labeling.merge import merge

    manifest = merge(config.shards, config.output, config.allow_incomplete)
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, manifest)
    classes = ", ".join(f"{name} {count}" for name, count in manifest["counts"]["responses"].items())
    print(f"{output}: {manifest['rows']} rows of {len(manifest['shards'])} shards ({classes})")
    for sentence in manifest["open"]:
        print(f"incomplete: {sentence}")


if __name__ == "__main__":
    main()
