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
# tries: forged verdicts in every shared mapping and buffer of the process that answers the proxy
# kind: code
# before: right
# problem: add
# verdict: wrong_answer, runtime_error, output_limit, time_limit

import ctypes
import os


def f(x):
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                span, mode = line.split()[:2]
                if mode.startswith("rw") and mode.endswith("s"):
                    start, end = (int(part, 16) for part in span.split("-"))
                    for byte in (0xFF, 0, 1):
                        ctypes.memset(start, byte, end - start)
    except OSError:
        pass
    os._exit(0)
