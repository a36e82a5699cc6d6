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
# tries: to stall the judge by an answer whose keys all have the same hash, written down without the work of making it
# kind: call
# verdict: runtime_error, wrong_answer, output_limit
# seconds: 5

import mmap
import os
import sys


def regions():
    """Every writable buffer that the frames below hold, or objects in them."""
    frame = sys._getframe()
    while frame:
        for holder in [*frame.f_locals.values(), *frame.f_globals.values()]:
            for item in [holder, *getattr(holder, "__dict__", {}).values()]:
                if isinstance(item, (mmap.mmap, memoryview, bytearray)):
                    yield item
        frame = frame.f_back


keys = b",".join(b'[{\\"i\\":\\"%x\\"},0]' % ((2**61 - 1) * i) for i in range(10, 60_000))
line = b'{"value": "{\\"d\\":[' + keys + b']}"}\n'
for region in list(regions()):
    region[8 : 8 + len(line)] = line
    region[:8] = b"\1\0\0\0" + len(line).to_bytes(4, "little")
os._exit(0)
