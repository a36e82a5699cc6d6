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
# tries: the odder families of sockets: netlink, packets, the kernel's ciphers, the hypervisor
# kind: call
# needs: filter
# verdict: wrong_answer

import socket


def f(x):
    done = []
    for family in range(1, 46):
        for kind in (1, 2, 3, 5):
            for protocol in (0, 1, 16):
                try:
                    socket.socket(family, kind, protocol).close()
                    done.append(family)
                except OSError:
                    pass
    return f"LEAK {done}" if done else "nothing"
