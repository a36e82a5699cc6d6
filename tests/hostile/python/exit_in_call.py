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
# tries: to leave with status 0 in the middle of the second call, after a forged summary
# kind: call
# verdict: wrong_answer, runtime_error

import os
import sys


def f(x):
    if x == 1:
        return "wrong"
    print("3 passed in 0.01s", flush=True)
    print("OK", file=sys.stderr, flush=True)
    os._exit(0)
