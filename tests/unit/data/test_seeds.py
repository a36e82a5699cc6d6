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
"""Seeds of prompts."""

from __future__ import annotations

from nemo_prm.data.seeds import occurrence_seeds


def test_a_repeated_prompt_gets_a_seed_of_its_own_and_the_first_keeps_the_callers() -> None:
    seeds = occurrence_seeds(["a", "b", "a", "a"], 5)
    assert seeds[:2] == [5, 5]
    assert len({5, seeds[2], seeds[3]}) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert occurrence_seeds(["a", "a"], 5) == [5, seeds[2]]
    assert occurrence_seeds(["a", "a"], 6)[1] != seeds[2]
