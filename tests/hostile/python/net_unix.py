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
# tries: unix sockets, by file and by abstract name, also through socketpairs and descriptors it has
# kind: call
# verdict: wrong_answer

import os
import socket


def f(x):
    done = []
    names = ["\0@ABSTRACT@", "\0@ABSTRACT@.dgram", "@UNIX_PATH@"]
    for name in names:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            try:
                with socket.socket(socket.AF_UNIX, kind) as client:
                    client.settimeout(0.05)
                    client.connect(name)
                    client.send(b"found you")
                    done.append(name)
            except OSError:
                pass
            try:
                for end in socket.socketpair(socket.AF_UNIX, kind):
                    end.setblocking(False)
                    end.sendto(b"found you", name)  # a stream would take it as an ordinary write
            except OSError:
                pass
    for fd in range(256):
        for name in names:
            try:
                with socket.socket(fileno=os.dup(fd)) as peer:
                    peer.setblocking(False)
                    peer.connect(name)
                    done.append(fd)
            except (OSError, ValueError):
                pass
    return f"LEAK {done}" if done else "nothing"
