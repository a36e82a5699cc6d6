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
# tries: to answer, then to end while the proxy waits for the next reply, having stopped itself
# kind: code
# verdict: wrong_answer, runtime_error, time_limit

import os
import signal
import threading
import time


def stop():
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGSTOP)


threading.Thread(target=stop, daemon=True).start()


def f(x):
    time.sleep(0.05)
    return "wrong"
