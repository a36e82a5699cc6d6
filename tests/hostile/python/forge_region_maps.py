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
# tries: to overwrite every shared mapping of its process while the judge reads it
# kind: call
# verdict: wrong_answer, runtime_error, output_limit, time_limit

import ctypes
import threading
import time

ADDRESSES = []
try:
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, mode = line.split()[:2]
            if mode.startswith("rw") and mode.endswith("s"):
                ADDRESSES.append([int(part, 16) for part in span.split("-")])
except OSError:
    pass


def scribble():
    while True:
        for byte in (0, 1, 0x7B, 0xFF):
            for start, end in ADDRESSES:
                ctypes.memset(start, byte, end - start)


if ADDRESSES:
    threading.Thread(target=scribble, daemon=True).start()


def f(x):
    time.sleep(0.01)
    return "wrong"
