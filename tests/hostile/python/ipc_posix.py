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
# tries: POSIX shared memory and queues, memory files, watches and secret memory
# kind: call
# needs: filter
# verdict: wrong_answer

import ctypes
import os


def f(x):
    libc = ctypes.CDLL(None)
    made = []
    for name, number, *arguments in (
        ("mq_open", 240, b"nemo_hostile", os.O_CREAT | os.O_RDWR, 0o666, 0),
        ("memfd_create", 319, b"nemo_hostile", 0),
        ("memfd_secret", 447, 0),
        ("inotify_init", 294, 0),
        ("fanotify_init", 300, 0, 0),
        ("signalfd", 289, -1, (ctypes.c_uint64 * 1)(0), 8, 0),
        ("timerfd", 283, 1, 0),
    ):
        if libc.syscall(number, *arguments) >= 0:
            made.append(name)
    try:
        with open("/dev/shm/nemo_hostile_shm", "w") as file:
            file.write("x")
    except OSError:
        pass
    return f"LEAK {made}" if made else "nothing"
