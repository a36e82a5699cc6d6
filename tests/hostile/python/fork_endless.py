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
#
# tries: children that fork without end (at a level where it may fork at all)
# kind: call
# verdict: wrong_answer, time_limit, runtime_error, memory_limit

import os
import time


def f(x):
    deadline, started = time.monotonic() + 1.0, 0
    while time.monotonic() < deadline and started < 2000:
        try:
            started += os.fork() > 0
        except OSError:
            if started == 0:
                return "no child"
    return "wrong"
