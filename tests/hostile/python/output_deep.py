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
# tries: answers that are nested deeply, hold themselves, or are small here and huge when written down
# kind: call
# verdict: wrong_answer, runtime_error, output_limit
# time: 2


def f(x):
    value = [0]
    for _ in range(40 if x == 1 else 100_000):
        value = [value, value] if x == 1 else [value]
    if x == 2:
        value[0].append(value)
    return value
