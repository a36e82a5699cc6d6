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
# tries: other users, capabilities, cores and priorities, and to become traceable or unkillable
# kind: call
# needs: filter
# verdict: wrong_answer

import ctypes
import os


def f(x):
    libc = ctypes.CDLL(None)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    done = []
    for name, deed in (
        ("setuid", lambda: libc.setresuid(65534, 65534, 65534)),
        ("setgid", lambda: libc.setresgid(65534, 65534, 65534)),
        ("setgroups", lambda: libc.setgroups(0, 0)),
        ("capset", lambda: libc.syscall(126, header, data)),
        ("dumpable", lambda: libc.prctl(4, 1, 0, 0, 0)),
        ("ptracer", lambda: libc.prctl(0x59616D61, -1, 0, 0, 0)),
        ("no pdeathsig", lambda: libc.prctl(1, 0, 0, 0, 0)),
        ("subreaper", lambda: libc.prctl(36, 1, 0, 0, 0)),
        ("tsc", lambda: libc.prctl(26, 2, 0, 0, 0)),
        ("personality", lambda: libc.personality(0x0040000)),
        ("nice", lambda: libc.setpriority(0, 0, -20)),
        ("scheduler", lambda: libc.sched_setscheduler(0, 1, (ctypes.c_int * 1)(1))),
        ("ioprio", lambda: libc.syscall(251, 1, 0, 1 << 13)),
        ("affinity of others", lambda: libc.sched_setaffinity(os.getppid(), 8, (ctypes.c_uint64 * 1)(1))),
        ("affinity", lambda: libc.sched_setaffinity(0, 8, (ctypes.c_uint64 * 1)(2**64 - 1))),
        ("mlockall", lambda: libc.mlockall(7)),
        ("vhangup", lambda: libc.vhangup()),
    ):
        if deed() >= 0:
            done.append(name)
    return f"LEAK {done}" if done else "nothing"
