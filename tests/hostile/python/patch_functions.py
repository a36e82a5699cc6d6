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
# tries: new code in every function and method that it can reach through frames and the collector
# kind: call
# verdict: wrong_answer, runtime_error, time_limit

import gc
import types


def f(x):
    def forged(*args, **kwargs):
        return True

    own = {f.__code__, forged.__code__}
    gc.unfreeze()
    for thing in gc.get_objects():
        if type(thing) is types.FunctionType and thing.__code__ not in own and not thing.__closure__:
            try:
                thing.__code__ = forged.__code__
            except ValueError:
                pass
    return "wrong"
