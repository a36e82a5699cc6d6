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
"""Runs the paper's tables at small scale and writes docs/study.md: `python scripts/study.py`; a rerun goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from nemo_prm.config import StudyConfig
from nemo_prm.entry import script
from nemo_prm.processes import Interrupted, owning_process


@script(StudyConfig)
def main(config: StudyConfig) -> None:
    from nemo_prm.study.run import study

    try:
        with owning_process():
            print(study(config, Path(__file__).resolve().parent.parent))
    except Interrupted as signal:
        print(f"\nstopped by {signal}; the same command goes on", file=sys.stderr)
        sys.exit(signal.exit_code)


if __name__ == "__main__":
    main()
