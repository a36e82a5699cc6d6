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
# tries: garbage straight on the wire to the proxy
# kind: code
# verdict: wrong_answer, runtime_error, output_limit, time_limit

import os
import random


def f(x):
    rng = random.Random(0)
    for fd in range(256):
        for size in (1, 4, 7, 4096, 2**16):
            try:
                os.set_blocking(fd, False)
                os.write(fd, rng.randbytes(size))
            except OSError:
                break
    return "wrong"
