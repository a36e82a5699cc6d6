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
# tries: processes by raw system calls: clone, clone3, vfork, fork, and by the numbers of the x32 ABI
# kind: call
# needs: filter
# verdict: wrong_answer, runtime_error

import ctypes
import os


def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    me = os.getpid()
    arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)
    for call in (
        (56, 17, 0, 0, 0, 0),
        (56, 0x10000000 | 17, 0, 0, 0, 0),  # CLONE_NEWUSER
        (435, arguments, 88),
        (57,),
        (0x40000000 | 57,),
        (0x40000000 | 56, 17, 0, 0, 0, 0),
        (0x40000000 | 520, b"/bin/sh", 0, 0),
    ):
        got = libc.syscall(*call)
        if os.getpid() != me:
            os._exit(0)
        if got > 0:
            return "LEAK process"
    return "nothing"
