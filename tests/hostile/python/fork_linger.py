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
# tries: children, daemons and sessions that outlive it (at a level where it may fork at all)
# kind: call
# verdict: wrong_answer, time_limit, runtime_error

import os
import signal
import time


def f(x):
    for number in range(8):
        try:
            if os.fork() == 0:
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                os.setsid()
                if number % 2 and os.fork():
                    os._exit(0)
                time.sleep(3600)
        except OSError:
            pass
    return "wrong"
