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
# tries: other programs, by every door of the standard library
# kind: call
# verdict: wrong_answer, runtime_error

import ctypes
import multiprocessing
import os
import subprocess
import sys

COMMAND = ["/bin/sh", "-c", "touch nemo_hostile_ran; touch '@DROP_FOLDER@/nemo_hostile_ran'; sleep 3600 &"]


def f(x):
    libc = ctypes.CDLL(None)
    for deed in (
        lambda: subprocess.run(COMMAND),
        lambda: os.system("touch nemo_hostile_ran"),
        lambda: os.popen("touch nemo_hostile_ran").close(),
        lambda: os.posix_spawn("/bin/sh", COMMAND, {}),
        lambda: os.spawnv(os.P_NOWAIT, "/bin/sh", COMMAND),
        lambda: multiprocessing.Process(target=print).start(),
        lambda: os.forkpty(),
        lambda: libc.system(b"touch nemo_hostile_ran"),
        lambda: libc.syscall(59, b"/bin/sh", 0, 0),
        lambda: libc.syscall(322, -100, sys.executable.encode(), 0, 0, 0),  # execveat
    ):
        try:
            deed()
        except (OSError, RuntimeError, AttributeError):
            pass
    return "LEAK ran" if os.path.exists("nemo_hostile_ran") else "nothing"
