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
"""Where stop strings end a completion: the same for every generator."""

from __future__ import annotations

from typing import Sequence

from nemo_prm.types import Completion, FinishReason


def finished(text: str, num_tokens: int, reason: FinishReason, stop: Sequence[str]) -> Completion:
    """The completion of a generated text: cut before the first occurrence of a stop string, if there is one."""
    found = [position for position in (text.find(string) for string in stop) if position >= 0]
    return Completion(text[: min(found)], num_tokens, "stop") if found else Completion(text, num_tokens, reason)
