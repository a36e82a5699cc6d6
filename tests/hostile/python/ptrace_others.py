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
# tries: to trace, read and write other processes
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import ctypes
import os


def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(4096)
    for pid in {os.getppid(), int("@JUDGE_PID@"), int("@BYSTANDER_PID@"), 1} - {0, os.getpid()}:
        for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
            if libc.ptrace(request, pid, 0, 0) == 0:
                return "LEAK ptrace"
        local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 4096)
        remote = (ctypes.c_void_p * 2)(0x400000, 4096)
        if libc.process_vm_readv(pid, local, 1, remote, 1, 0) > 0:
            return "LEAK process_vm_readv"
        pidfd = libc.syscall(434, pid, 0)
        if pidfd >= 0 and any(libc.syscall(438, pidfd, fd, 0) >= 0 for fd in range(16)):
            return "LEAK pidfd_getfd"
        if libc.syscall(312, os.getpid(), pid, 0, 0, 0) >= 0:
            return "LEAK kcmp"
    return "nothing" if libc.ptrace(0, 0, 0, 0) < 0 else "traceme"
