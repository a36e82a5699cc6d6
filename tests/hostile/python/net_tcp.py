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
# tries: connections to services on loopback and beyond
# kind: call
# verdict: wrong_answer

import socket


def f(x):
    done = []
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", int("@TCP4_PORT@"))),
        (socket.AF_INET, ("0.0.0.0", int("@TCP4_PORT@"))),
        (socket.AF_INET6, ("::1", int("@TCP6_PORT@"))),
        (socket.AF_INET6, ("::ffff:127.0.0.1", int("@TCP4_PORT@"))),
    ):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as client:
                client.settimeout(0.05)
                client.connect(address)
                client.send(b"found you")
                done.append(address)
        except OSError:
            pass
    try:
        socket.create_connection(("localhost", int("@TCP4_PORT@")), timeout=0.05).close()
        done.append("localhost")
    except OSError:
        pass
    return f"LEAK {done}" if done else "nothing"
