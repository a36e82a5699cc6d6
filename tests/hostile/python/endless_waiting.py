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
# tries: to look like a program that a busy machine kept from the processor: its threads wait for each other
# kind: call
# verdict: time_limit
# seconds: 6

import threading
import time


def tick(step=0.01):
    while True:
        time.sleep(step - time.monotonic() % step)


def f(x):
    for _ in range(100):
        try:
            threading.Thread(target=tick, daemon=True).start()
        except RuntimeError:
            break
    while True:
        time.sleep(1)
