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
# tries: the same on the standard streams: appending, non-blocking, locked, sealed, moved
# kind: stdio
# verdict: wrong_answer, runtime_error

import fcntl
import os

for fd in range(256):
    for command, argument in (
        (fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC | os.O_DIRECT),
        (fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC),
        (fcntl.F_SETOWN, os.getppid()),
        (1031, 4096),  # F_SETPIPE_SZ
        (fcntl.F_SETLEASE, fcntl.F_WRLCK),
        (1033, 15),  # F_ADD_SEALS: no shrinking, no growing, no writing
    ):
        try:
            fcntl.fcntl(fd, command, argument)
        except (OSError, ValueError):
            pass
    for deed in (lambda fd: fcntl.flock(fd, 6), lambda fd: os.lseek(fd, 2**40, 0), lambda fd: os.fchmod(fd, 0)):
        try:
            deed(fd)
        except OSError:
            pass
print("wrong")
