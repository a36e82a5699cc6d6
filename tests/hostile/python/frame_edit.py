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
# tries: to overwrite the locals of every frame below, whatever they hold
# kind: call
# verdict: wrong_answer, runtime_error

import ctypes
import sys


class Yes:
    __eq__ = lambda self, other: True
    __hash__ = lambda self: 0


def f(x):
    frame = sys._getframe().f_back
    while frame:
        for name in list(frame.f_locals):
            if "expect" in name or "want" in name or "status" in name or "passed" in name or "failed" in name:
                frame.f_locals[name] = True
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), 0)
        frame = frame.f_back
    return Yes()
