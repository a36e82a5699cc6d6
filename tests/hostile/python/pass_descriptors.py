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
# tries: to send its descriptors to, and to receive others from, whoever holds the far end of a socket
# kind: call
# verdict: wrong_answer, runtime_error, time_limit

import os
import socket


def f(x):
    folder = os.open(".", os.O_RDONLY)
    for fd in range(3, 256):
        try:
            with socket.socket(fileno=os.dup(fd)) as peer:
                peer.setblocking(False)
                for _ in range(50):
                    socket.send_fds(peer, [b"\x08\0\0\0{}      "], [folder] * 10)
                _, received, _, _ = socket.recv_fds(peer, 100, 20)
                if received:
                    return "LEAK descriptors"
        except OSError:
            pass
    return "wrong"
