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
"""Writes labels as Parquet or `datasets`: python scripts/export_labels.py 'labels=[labels.jsonl]' output=a.parquet"""

from __future__ import annotations

from nemo_prm.config import ExportLabelsConfig
from nemo_prm.entry import script


@script(ExportLabelsConfig)
def main(config: ExportLabelsConfig) -> None:
    from nemo_prm.data.export import export_rows
    from nemo_prm.data.manifest import read_labels
    from nemo_prm.data.rows import check_distinct

    stores = [(path, read_labels(path)) for path in config.labels]
    check_distinct(stores)
    rows = [row for _, entries in stores for row in entries]
    export_rows(rows, config.output)
    print(f"{config.output}: {len(rows)} rows")


if __name__ == "__main__":
    main()
