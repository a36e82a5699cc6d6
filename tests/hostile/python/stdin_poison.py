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
# tries: to leave poison in the input of the next program
# kind: stdio
# verdict: wrong_answer, runtime_error

import os

for fd in range(256):
    try:
        size = os.fstat(fd).st_size
        os.pwrite(fd, b"9 9\n" * 1000, 0)
        os.pwrite(fd, b"9 9\n" * 1000, size)
    except OSError:
        pass
for name in ("/proc/self/fd/0", "/dev/stdin", "/dev/fd/0"):
    try:
        with open(name, "r+b") as file:
            file.write(b"9 9\n" * 1000)
    except OSError:
        pass
print("wrong")
