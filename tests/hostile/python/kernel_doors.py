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
# tries: the parts of the kernel in which holes are found: keyrings, bpf, perf, userfaultfd, io_uring, modules
# kind: call
# needs: filter
# verdict: wrong_answer

import ctypes


def f(x):
    libc = ctypes.CDLL(None)
    buffer = (ctypes.c_uint64 * 64)()
    done = []
    for name, number, *arguments in (
        ("add_key", 248, b"user", b"nemo_hostile", b"x", 1, -3),
        ("keyctl", 250, 0, -3, 1),
        ("bpf", 321, 0, buffer, 64),
        ("perf_event_open", 298, buffer, 0, -1, -1, 0),
        ("userfaultfd", 323, 0),
        ("userfaultfd of user mode", 323, 1),
        ("io_uring_setup", 425, 8, buffer),
        ("init_module", 175, buffer, 8, b""),
        ("kexec_load", 246, 0, 0, 0, 0),
        ("syslog", 103, 3, buffer, 512),
        ("modify_ldt", 154, 0, buffer, 64),
        ("quotactl", 179, 0, 0, 0, 0),
        ("open_by_handle_at", 304, -100, buffer, 0),
        ("landlock_create_ruleset", 444, 0, 0, 1),
        ("seccomp", 317, 2, 0, buffer),
        ("mbind", 237, buffer, 0, 0, 0, 0, 0),
        ("swapon", 167, b"/dev/zero", 0),
        ("reboot", 169, 0, 0, 0, 0),
        ("acct", 163, b"/tmp/nemo_hostile_acct"),
        ("sethostname", 170, b"nemo-hostile", 12),
        ("iopl", 172, 3),
        ("pidfd_open", 434, 1, 0),
    ):
        if libc.syscall(number, *arguments) >= 0:
            done.append(name)
    return f"LEAK {done}" if done else "nothing"
