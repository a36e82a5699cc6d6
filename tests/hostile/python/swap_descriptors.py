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
# tries: to plug every descriptor into every other one
# kind: stdio
# verdict: wrong_answer, runtime_error, output_limit, time_limit

import os

for source in range(0, 16):
    for target in range(0, 16):
        try:
            os.dup2(source, target)
        except OSError:
            pass
try:
    os.write(1, os.read(0, 100))
except OSError:
    pass
print("wrong", flush=True)
