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
# tries: to hold space in files that no longer have a name
# kind: call
# verdict: wrong_answer, runtime_error, memory_limit
# time: 2

import os


def f(x):
    files = []
    try:
        for number in range(200):
            name = f"nemo_hostile_{number}"
            files.append(open(name, "wb"))
            os.unlink(name)
            files[-1].write(b"x" * 2**20)
            files[-1].flush()
    except OSError:
        pass
    return "LEAK 200 MB of disk" if len(files) == 200 else "nothing"
