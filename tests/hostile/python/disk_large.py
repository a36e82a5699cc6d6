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
# tries: 200 MB in one file, then in many
# kind: call
# minimum: namespaces
# verdict: runtime_error, wrong_answer, memory_limit
# time: 2

import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def f(x):
    block, written = b"x" * 2**20, 0
    for number in range(200):
        try:
            with open(f"nemo_hostile_{number}", "wb") as file:
                for _ in range(200):
                    file.write(block)
                    file.flush()
                    written += 1
                    if written >= 200:
                        return "LEAK 200 MB of disk"
        except OSError:
            pass
    return f"{written} MB"
