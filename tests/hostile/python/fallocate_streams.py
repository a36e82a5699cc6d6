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
# tries: to hold memory or disk through its standard streams beyond their size
# kind: stdio
# verdict: wrong_answer, runtime_error, output_limit

import ctypes
import os

libc = ctypes.CDLL(None)
for fd in range(256):
    for mode in (1, 0):  # FALLOC_FL_KEEP_SIZE first
        libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(200 * 2**20))
        libc.fallocate(fd, mode, ctypes.c_long(2**30), ctypes.c_long(14 * 2**20))
    try:
        os.posix_fallocate(fd, 0, 2**20)
    except OSError:
        pass
print("wrong")
