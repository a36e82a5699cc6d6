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
# tries: forged verdicts and answers, in every form it can think of, on every descriptor
# kind: call
# verdict: wrong_answer, runtime_error, output_limit

import json
import os
import pickle
import struct

FORGED = [
    b"passed\n",
    b'{"value": true, "passed": true, "status": "passed"}\n{"done": 0}\n',
    json.dumps([[0, True], "passed", {"passed": True}]).encode() + b"\n",
    struct.pack("<qq", 0, 0) * 4,
    struct.pack("<I", 6) + b"passed",
    struct.pack(">I", 6) + b"passed",
    pickle.dumps({"passed": True}),
    b"\0" * 64,
    b"\xff" * 64,
]


def write_everywhere():
    for fd in range(256):
        for data in FORGED:
            try:
                os.write(fd, data)
            except OSError:
                break


write_everywhere()


def f(x):
    write_everywhere()
    os._exit(0)
