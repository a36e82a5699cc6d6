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
# tries: the memory and the descriptors of other processes through /proc
# kind: call
# minimum: namespaces
# verdict: wrong_answer
# time: 4

import os
import re


def f(x):
    if x != 1:
        return "nothing"
    pids = [name for name in (os.listdir("/proc") if os.path.isdir("/proc") else []) if name.isdigit()]
    for pid in {*pids, "1", str(os.getppid()), "@JUDGE_PID@", "@BYSTANDER_PID@"} - {str(os.getpid())}:
        try:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for line in maps.read().splitlines():
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    if line.split()[1].startswith("rw"):
                        memory.seek(start)
                        if found := re.findall(rb"nemo-canary-[0-9a-f]{16}", memory.read(min(end - start, 2**24))):
                            return [token.decode() for token in found[:3]]
            return "LEAK memory of " + pid
        except (OSError, OverflowError, ValueError):
            pass
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                os.close(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_NONBLOCK))
                return f"LEAK descriptor {fd} of {pid}"
        except OSError:
            pass
    return "nothing"
