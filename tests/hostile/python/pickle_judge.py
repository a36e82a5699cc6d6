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
# tries: objects and byte strings that run code in whoever unpickles them
# kind: call
# verdict: wrong_answer, runtime_error

import os
import pickle


class Bomb:
    def __reduce__(self):
        return os.system, ("touch '@DROP_FOLDER@/nemo_hostile_pickle'",)


def f(x):
    data = pickle.dumps(Bomb())
    for fd in range(256):
        try:
            os.write(fd, data)
        except OSError:
            pass
    return {1: Bomb(), 2: data}.get(x if isinstance(x, int) else 0, bytearray(data))
