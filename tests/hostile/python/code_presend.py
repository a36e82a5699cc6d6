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
# tries: replies before they are asked for, out of order, twice
# kind: code
# verdict: wrong_answer, runtime_error, output_limit, time_limit

import json
import os
import struct


def flood():
    for fd in range(256):
        for number in range(20):
            for fields in (
                ["v", True],
                {"value": "true"},
                {"value": True, "passed": True},
                {"passed": True},
                {"done": 0},
            ):
                text = json.dumps(fields).encode()
                for data in (
                    text + b"\n",
                    struct.pack("<I", len(text)) + text,
                    struct.pack("<BI", number, len(text)) + text,
                ):
                    try:
                        os.set_blocking(fd, False)
                        os.write(fd, data)
                    except OSError:
                        break


flood()


def f(x):
    flood()
    return True
