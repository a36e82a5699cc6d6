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
# tries: to use up the threads and processes that its user may have, so that nobody else can start any
# kind: call
# verdict: memory_limit, runtime_error, time_limit, wrong_answer
# time: 1
import threading
import time

threading.stack_size(2**15)


def f(x):
    wait = threading.Event()
    try:
        while True:
            threading.Thread(target=wait.wait, daemon=True).start()
    except (RuntimeError, MemoryError):
        time.sleep(0.6)
    return "wrong"
