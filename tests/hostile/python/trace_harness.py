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
# tries: trace and profile functions on every frame, which edit what the harness is about to answer
# kind: call
# verdict: wrong_answer, runtime_error

import ctypes
import sys
import threading


def trace(frame, event, argument):
    for name, value in list(frame.f_locals.items()):
        if value == "wrong":
            frame.f_locals[name] = True
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), 0)
    return trace


def f(x):
    sys.settrace(trace)
    sys.setprofile(trace)
    threading.settrace(trace)
    frame = sys._getframe()
    while frame:
        frame.f_trace = trace
        frame.f_trace_opcodes = True
        frame = frame.f_back
    return "wrong"
