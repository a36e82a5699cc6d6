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
# tries: environment, command line and working folder of other processes through /proc
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import os
import re


def f(x):
    found = set()
    pids = [name for name in (os.listdir("/proc") if os.path.isdir("/proc") else []) if name.isdigit()]
    for pid in {*pids, "1", "self", "thread-self", str(os.getppid()), "@JUDGE_PID@", "@BYSTANDER_PID@"}:
        for name in ("environ", "cmdline", "maps", "cwd", "root/etc/shadow", "status", "stack"):
            path = f"/proc/{pid}/{name}"
            try:
                if name == "cwd":
                    text = os.readlink(path).encode()
                else:
                    with open(path, "rb") as file:
                        text = file.read(2**20)
            except OSError:
                continue
            found.update(t.decode() for t in re.findall(rb"nemo-canary-[0-9a-f]{16}", text))
            if pid in ("@JUDGE_PID@", "@BYSTANDER_PID@") and pid not in ("1", str(os.getpid()), str(os.getppid())):
                found.add("LEAK " + path)
            if name == "environ" and text.strip(b"\0"):
                found.add("LEAK " + path)
            if name.startswith("root"):
                found.add("LEAK " + path)
    return sorted(found)[:5] or "nothing"
