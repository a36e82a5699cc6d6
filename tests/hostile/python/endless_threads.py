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
# tries: threads that keep all cores busy after its wrong answer
# kind: call
# verdict: wrong_answer, time_limit, runtime_error

import threading
import zlib


def spin():
    data = bytes(2**20)
    while True:
        zlib.crc32(data)  # without the interpreter's lock


for _ in range(20):
    try:
        threading.Thread(target=spin, daemon=True).start()
    except RuntimeError:
        break


def f(x):
    return "wrong"
