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
# tries: SIGKILL and SIGSTOP to every process of its namespace
# kind: call
# minimum: namespaces
# verdict: wrong_answer, runtime_error, time_limit

import os
import signal


def f(x):
    if os.getpid() < 2000:  # in a namespace of its own; a broken sandbox must not cost the machine
        for number in (signal.SIGSTOP, signal.SIGKILL):
            try:
                os.kill(-1, number)
            except OSError:
                pass
    return "wrong"
