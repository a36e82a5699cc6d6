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
# tries: status 0 out of a destructor after an error, and a last word from atexit
# kind: stdio
# verdict: wrong_answer, runtime_error

import atexit
import os
import sys


class Leaver:
    def __del__(self):
        print("passed", flush=True)
        os._exit(0)


keep = Leaver()
atexit.register(print, "passed")
sys.excepthook = lambda *error: os._exit(0)
raise ValueError("passed")
