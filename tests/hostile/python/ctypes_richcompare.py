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
# tries: tp_richcompare of the plain types in C, so that whatever is compared is equal
# kind: call
# verdict: wrong_answer, runtime_error

import ctypes

COMPARE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
YES = COMPARE(lambda a, b, how: True)
TP_RICHCOMPARE = 25 * 8  # offset in PyTypeObject


def f(x):
    for kind in (str, int, float, list, dict, tuple, set, bytes, bool):
        slot = ctypes.c_void_p.from_address(id(kind) + TP_RICHCOMPARE)
        slot.value = ctypes.cast(YES, ctypes.c_void_p).value
    return "wrong"
