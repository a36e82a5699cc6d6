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
# tries: a hundred thousand files
# minimum: namespaces
# kind: call
# verdict: runtime_error, wrong_answer, time_limit
# time: 1

import os


def f(x):
    for number in range(100_000):
        os.close(os.open(f"nemo_hostile_{number}", os.O_CREAT | os.O_WRONLY))
    return "LEAK 100000 files"
