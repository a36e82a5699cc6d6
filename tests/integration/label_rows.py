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
"""Made-up label rows, for training."""

from __future__ import annotations

import random
from typing import Any

from nemo_prm.data.rows import label_row_to_json
from nemo_prm.data.steps import split_lines
from nemo_prm.types import Cost, LabelRow


def make_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Label rows of 2 to 9 lines; a line is bad where it, or one before it, says so."""
    rng, rows = random.Random(seed), []
    for i in range(count):
        bad_from = rng.choice([None, rng.randrange(9)])
        lines = [f"x = {rng.randrange(9)}\n" for _ in range(rng.randint(2, 9))]
        lines = [
            line.replace("x", "y") if bad_from is not None and n >= bad_from else line for n, line in enumerate(lines)
        ]
        labels = tuple(-1.0 if "y" in line else 1.0 for line in lines)
        kind = "correct" if -1.0 not in labels else "revised" if 1.0 in labels else "wrong"
        text = "".join(lines)
        row = LabelRow(f"p{i}", f"r{i}", "c", "do\n", text, split_lines(text), labels, kind, (), Cost(), 0, "g", "s")
        rows.append(label_row_to_json(row))
    return rows
