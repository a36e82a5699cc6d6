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
# tries: to set back the clock by which it is timed
# kind: call
# problem: add
# verdict: time_limit

import time


def f(x):
    started = time.monotonic()
    for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC):
        try:
            time.clock_settime(clock, time.clock_gettime(clock))
        except OSError:
            pass
    time.time = time.monotonic = time.perf_counter = time.process_time = lambda: 0.0
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()
    lock.acquire(timeout=30)
    return x + 1 + 0 * int(started)
