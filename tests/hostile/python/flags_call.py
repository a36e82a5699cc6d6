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
# tries: flags, locks, leases, owners and pipe sizes of descriptors that it may share with the judge or the next program
# kind: call
# verdict: wrong_answer, runtime_error, time_limit

import fcntl
import os
import signal


def f(x):
    for fd in range(256):
        for command, argument in (
            (fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC),
            (fcntl.F_SETFD, 0),
            (fcntl.F_SETOWN, os.getppid()),
            (10, signal.SIGKILL),  # F_SETSIG
            (1031, 4096),  # F_SETPIPE_SZ
            (fcntl.F_SETLEASE, fcntl.F_WRLCK),
            (1033, 15),  # F_ADD_SEALS
        ):
            try:
                fcntl.fcntl(fd, command, argument)
            except (OSError, ValueError):
                pass
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
    return "wrong"
