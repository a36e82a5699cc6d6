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
# tries: SystemExit out of __del__, atexit, excepthook, a thread, a signal handler and a generator
# kind: call
# verdict: wrong_answer, runtime_error

import atexit
import os
import signal
import sys
import threading


def leave(*args):
    os._exit(0)


class Leaver:
    def __del__(self):
        leave()


KEEP = Leaver()
atexit.register(leave)
sys.excepthook = sys.unraisablehook = threading.excepthook = leave
sys.__excepthook__ = leave
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGPIPE):
    signal.signal(number, leave)


def f(x):
    sys.exit(0)
