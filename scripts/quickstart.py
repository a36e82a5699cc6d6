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
"""Runs the whole pipeline, with and without the PRM: `python scripts/quickstart.py`, or `make quickstart`."""

from __future__ import annotations

import sys
from pathlib import Path

from nemo_prm.config import QuickstartConfig
from nemo_prm.entry import script
from nemo_prm.processes import Interrupted, owning_process
from nemo_prm.quickstart.run import quickstart


@script(QuickstartConfig)
def main(config: QuickstartConfig) -> None:
    try:
        with owning_process():
            quickstart(config, Path(__file__).resolve().parent.parent)
    except Interrupted as signal:
        print(f"\nstopped by {signal}; run it again to go on from the last finished stage", file=sys.stderr)
        sys.exit(signal.exit_code)


if __name__ == "__main__":
    main()
