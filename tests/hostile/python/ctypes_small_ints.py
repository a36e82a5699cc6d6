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
# tries: to swap the interpreter's small integers, so that a wrong sum looks right
# kind: call
# problem: add
# verdict: wrong_answer, runtime_error

import ctypes


def f(x):
    for number in range(0, 200):
        ctypes.c_uint32.from_address(id(number) + 24).value = 2
    return 2
