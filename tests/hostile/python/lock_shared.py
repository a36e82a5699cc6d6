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
# tries: locks, flags and times of files that the machine and other programs see: to signal, and to block them
# kind: call
# verdict: wrong_answer

import contextlib
import fcntl
import os


def f(x):
    shared = [0, os.open(os.__file__, os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
    if any(fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK) for fd in shared):
        return "LEAK flags of an earlier program"
    before = [os.fstat(fd).st_mtime_ns for fd in shared]
    for fd in shared:
        for try_it in (
            lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK),
            lambda fd: os.utime(fd, (1, 1)),
        ):
            with contextlib.suppress(OSError):
                try_it(fd)
    if [os.fstat(fd).st_mtime_ns for fd in shared] != before:
        return "LEAK times"
    return "nothing"
