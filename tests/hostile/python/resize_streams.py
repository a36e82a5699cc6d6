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
# tries: to grow, shrink and overwrite its standard streams as files
# kind: stdio
# before: right
# problem: add
# verdict: wrong_answer, runtime_error, output_limit

import os

for fd in range(256):
    for deed in (
        lambda fd: os.ftruncate(fd, 2**40),
        lambda fd: os.ftruncate(fd, 2**23),
        lambda fd: os.pwrite(fd, b"x" * 4096, 2**22),
        lambda fd: os.ftruncate(fd, 2),
        lambda fd: os.lseek(fd, 0, os.SEEK_SET),
        lambda fd: os.lseek(fd, 2, os.SEEK_SET),
    ):
        try:
            deed(fd)
        except OSError:
            pass
