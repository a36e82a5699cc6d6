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
# tries: to lift its own limits, then those of others, then to use what it gained
# kind: call
# verdict: wrong_answer, memory_limit, runtime_error
# time: 3

import os
import resource


def f(x):
    done = []
    for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "DATA", "STACK", "CORE", "MEMLOCK", "MSGQUEUE"):
        limit = getattr(resource, "RLIMIT_" + name)
        before = resource.getrlimit(limit)
        for pid in (0, os.getpid()):
            for wanted in (resource.RLIM_INFINITY, 2**62, max(before[1], 0) + 2**30):
                try:
                    resource.prlimit(pid, limit, (wanted, wanted))
                    if before[1] != resource.RLIM_INFINITY:
                        done.append(name)
                except (OSError, ValueError, OverflowError):
                    pass
        try:
            resource.setrlimit(limit, (before[1], before[1]))
        except (OSError, ValueError):
            pass
    for pid in {os.getppid(), 1} - {0, os.getpid()}:
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8))
            done.append("of others")
        except OSError:
            pass
    if done:
        return f"LEAK {done}"
    kept = [bytearray(2**22) for _ in range(256)]
    return f"LEAK {len(kept)} blocks"
