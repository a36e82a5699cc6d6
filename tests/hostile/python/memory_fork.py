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
# tries: many processes, each within the limit, to take the machine's memory together
# kind: call
# verdict: memory_limit, runtime_error

import os
import time


def f(x):
    ends, pids = os.pipe(), []
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            kept = [b"x" * 10**6 for _ in range(100)]
            os.write(ends[1], b"." * (len(kept) > 90))
            time.sleep(60)
        pids.append(pid)
    os.read(ends[0], 40)
    for pid in pids:
        os.waitpid(pid, 0)
    return "LEAK 4 GB"
