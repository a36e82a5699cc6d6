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
# tries: to claim that all is answered, where a right program has just answered the same questions
# kind: call
# before: right
# problem: add
# verdict: runtime_error, wrong_answer

import gc
import os
import sys
import types


def f(x):
    for fd in range(256):
        try:
            os.write(fd, b'{"done": 0}\n')
        except OSError:
            pass
    frame = sys._getframe().f_back
    names = {}
    while frame:
        names.update(frame.f_globals)
        names.update(frame.f_locals)
        frame = frame.f_back
    names.update({thing.__name__: thing for thing in gc.get_objects() if type(thing) is types.FunctionType})
    for name in ("finish", "done", "end", "_finish", "_done"):
        try:
            names[name](0)
        except BaseException:
            pass
    os._exit(0)
