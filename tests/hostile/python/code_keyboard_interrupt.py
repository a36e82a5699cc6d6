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
# tries: to end the test by exceptions that no handler of Exception sees, of hostile names
# kind: code
# verdict: runtime_error, wrong_answer

CLASSES = [KeyboardInterrupt, GeneratorExit, SystemExit, type("os._exit(0)", (BaseException,), {})]
CLASSES.append(type("__import__('os')._exit(0) #", (Exception,), {"__module__": "builtins"}))


def f(x):
    raise CLASSES[x % len(CLASSES)]("passed")
