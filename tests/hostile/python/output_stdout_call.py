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
# tries: 300 MB on standard output where nobody reads it, then an answer
# kind: call
# verdict: wrong_answer, output_limit, runtime_error
# time: 2

import os
import sys


def f(x):
    sys.stdout.write("x" * 2**20)
    block = b"x" * 2**20
    for _ in range(300):
        os.write(1, block)
    return "wrong"
