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
# tries: to overflow the C stack
# kind: call
# verdict: runtime_error, memory_limit

import sys
import threading

sys.setrecursionlimit(10**9)
try:
    threading.stack_size(2**26)
except (ValueError, RuntimeError):
    pass


class Deep:
    def __repr__(self):
        return repr(self)

    def __getattr__(self, name):
        return getattr(self, name + "x")


def f(x):
    return repr(Deep()) + Deep().y
