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
# tries: forged verdicts on every descriptor, then its standard output closed
# kind: stdio
# verdict: wrong_answer, runtime_error, output_limit

import os
import socket

for fd in range(256):
    try:
        os.write(fd, b'passed\n{"status": "passed", "done": 0}\n')
    except OSError:
        pass
    try:
        with socket.socket(fileno=os.dup(fd)) as peer:
            peer.send(b"K" * 16)
    except OSError:
        pass
os.closerange(0, 256)
os._exit(0)
