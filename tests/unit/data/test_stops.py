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
"""Where stop strings end a completion."""

from __future__ import annotations

import pytest

from nemo_prm.data.stops import finished
from nemo_prm.types import Completion


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ((), Completion("a\n\nb;c", 9, "length")),
        (("x", "\n\n\n"), Completion("a\n\nb;c", 9, "length")),
        (("\n\n",), Completion("a", 9, "stop")),
        ((";", "b"), Completion("a\n\n", 9, "stop")),  # the first in the text, not in the list
        (("a",), Completion("", 9, "stop")),
        (("c",), Completion("a\n\nb;", 9, "stop")),
    ],
)
def test_a_completion_ends_before_the_first_stop_string(stop: tuple[str, ...], expected: Completion) -> None:
    assert finished("a\n\nb;c", 9, "length", stop) == expected
