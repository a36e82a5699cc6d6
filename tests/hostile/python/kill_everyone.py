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
# tries: signals to all processes, to its parent, its group, the judge and a bystander
# kind: call
# verdict: wrong_answer, runtime_error

import ctypes
import os
import signal


def f(x):
    libc = ctypes.CDLL(None)
    reached = []
    # SIGURG is ignored by all but the bystander that waits for it; the strong ones go where nobody else can be.
    for pid in (-1, -int("@JUDGE_PID@"), int("@JUDGE_PID@"), int("@BYSTANDER_PID@"), os.getppid()):
        if pid == 0:
            continue  # its parent is in another namespace
        try:
            os.kill(pid, signal.SIGURG)
            reached.append(pid)
        except OSError:
            pass
        for call in (200, 297):  # tkill, rt_sigqueueinfo
            if pid > 0 and libc.syscall(call, pid, 0, 0) == 0:
                reached.append(pid)
    for pid in filter(None, (int("@BYSTANDER_PID@"), os.getppid())):
        try:
            os.kill(pid, signal.SIGKILL)
            reached.append(pid)
        except OSError:
            pass
    return f"LEAK signalled {reached}" if reached else "nobody"
