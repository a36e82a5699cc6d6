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
# tries: datagrams, names and raw packets; nothing may arrive
# kind: call
# verdict: wrong_answer

import socket


def f(x):
    for family, host, port in (
        (socket.AF_INET, "127.0.0.1", int("@UDP4_PORT@")),
        (socket.AF_INET6, "::1", int("@UDP6_PORT@")),
    ):
        for flags in (0, 0x20000000):  # MSG_FASTOPEN
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as client:
                    client.sendto(b"found you", flags, (host, port))
            except OSError:
                pass
    for kind, number in ((socket.SOCK_RAW, 1), (socket.SOCK_DGRAM, 1), (socket.SOCK_STREAM, 132)):
        try:
            with socket.socket(socket.AF_INET, kind, number) as client:
                client.settimeout(0.05)
                client.sendto(b"found you", ("127.0.0.1", int("@UDP4_PORT@")))
        except OSError:
            pass
    try:
        return f"LEAK {socket.getaddrinfo('example.com', 80)}"
    except OSError:
        return "nothing"
