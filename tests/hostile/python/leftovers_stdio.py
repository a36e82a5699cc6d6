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
# tries: to read an earlier program's input and output behind its own
# kind: stdio
# before: plant
# verdict: wrong_answer

import os
import re

found = set()
for fd in range(256):
    for offset in (0, 1, 2, 16, 4096):
        try:
            found.update(re.findall(rb"nemo-canary-[0-9a-f]{16}", os.pread(fd, 2**22, offset)))
        except OSError:
            pass
print([token.decode() for token in found] or "nothing")
