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
# tries: new namespaces, mounts and roots
# kind: call
# needs: filter
# verdict: wrong_answer

import ctypes
import os


def f(x):
    libc = ctypes.CDLL(None)
    done = []
    for flag in (0x10000000, 0x20000, 0x40000000, 0x8000000, 0x20000000, 0x4000000, 0x2000000, 0x80):
        if libc.unshare(flag) == 0:
            done.append(hex(flag))
    os.makedirs("nemo_hostile_root", exist_ok=True)
    for name, deed in (
        ("mount", lambda: libc.mount(b"none", b"nemo_hostile_root", b"tmpfs", 0, b"")),
        ("bind", lambda: libc.mount(b"/", b"nemo_hostile_root", b"none", 4096 | 16384, b"")),
        ("proc", lambda: libc.mount(b"proc", b"nemo_hostile_root", b"proc", 0, b"")),
        ("umount", lambda: libc.umount2(b"/proc", 2)),
        ("remount", lambda: libc.mount(b"none", b"/", b"none", 32 | 4096, b"")),
        ("chroot", lambda: libc.chroot(b"nemo_hostile_root")),
        ("pivot_root", lambda: libc.syscall(155, b".", b".")),
        ("setns", lambda: libc.setns(0, 0)),
        ("fsopen", lambda: libc.syscall(430, b"tmpfs", 0)),
        ("open_tree", lambda: libc.syscall(428, -100, b"/", 1)),
    ):
        if deed() >= 0:
            done.append(name)
    return f"LEAK {done}" if done else "nothing"
