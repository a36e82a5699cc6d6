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
# tries: to take all descriptors, locks, inodes and messages, in the hope that the judge shares them
# kind: call
# verdict: wrong_answer, runtime_error, memory_limit
# time: 2

import os
import socket


def f(x):
    kept = []
    for make in (os.pipe, lambda: os.open("/dev/null", 0), socket.socketpair, lambda: os.eventfd(0)):
        try:
            for _ in range(3000):
                kept.append(make())
        except (OSError, AttributeError):
            pass
    return "LEAK no limit of descriptors" if len(kept) >= 3000 else "nothing"
