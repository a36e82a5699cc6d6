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
"""Make the embedded problem set: `python scripts/make_embedded_problems.py [seed=1] [output=folder]`.

The same seed gives the same files, byte for byte.
"""

import json
from pathlib import Path

from nemo_prm.config import MakeEmbeddedProblemsConfig
from nemo_prm.data.embedded import split_path
from nemo_prm.data.embedded.chains import SPLITS
from nemo_prm.data.embedded.generate import make_problems
from nemo_prm.entry import script


@script(MakeEmbeddedProblemsConfig)
def main(config: MakeEmbeddedProblemsConfig) -> None:
    for split in SPLITS:
        rows = make_problems(split, getattr(config, split), config.seed)
        path = Path(config.output or split_path(split).parent) / split_path(split).name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"{path}: {len(rows)} problems, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
