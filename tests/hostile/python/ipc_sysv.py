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
# tries: shared memory, semaphores and queues of System V, which outlive their maker
# kind: call
# before: ipc_sysv
# verdict: wrong_answer

import ctypes


def f(x):
    libc = ctypes.CDLL(None)
    found = []
    if x == 1:
        found += ["shm"] if libc.shmget(0x6E656D6F, 0, 0) >= 0 else []
        found += ["sem"] if libc.semget(0x6E656D6F, 0, 0) >= 0 else []
        found += ["msg"] if libc.msgget(0x6E656D6F, 0) >= 0 else []
    for key in (0x6E656D6F, 0):
        libc.shmget(key, 2**20, 0o1666)
        libc.semget(key, 4, 0o1666)
        libc.msgget(key, 0o1666)
    return f"LEAK {found}" if found else "nothing"
