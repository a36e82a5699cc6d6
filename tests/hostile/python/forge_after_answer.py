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
# tries: to answer wrongly, then to change the answer in place while the next call runs
# kind: call
# problem: add
# verdict: wrong_answer, runtime_error

import ctypes
import threading
import time


class Late(list):
    pass


ANSWERS = []


def improve():
    while True:
        for answer, right in ANSWERS:
            answer[:] = [right]
            ctypes.c_uint32.from_address(id(answer)).value += 0
        time.sleep(0)


threading.Thread(target=improve, daemon=True).start()


def f(x):
    answer = [x]
    ANSWERS.append((answer, x + 1))
    return answer
