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
# tries: to claim one answer more whenever its time runs out
# kind: call
# problem: add
# verdict: time_limit

import mmap
import sys
import time


def regions():
    """Every writable buffer that the frames below hold, or objects in them."""
    frame = sys._getframe()
    while frame:
        for holder in [*frame.f_locals.values(), *frame.f_globals.values()]:
            for item in [holder, *getattr(holder, "__dict__", {}).values()]:
                if isinstance(item, (mmap.mmap, memoryview, bytearray)):
                    yield item
        frame = frame.f_back


for count in range(1, 200):
    for region in list(regions()):
        region[:4] = count.to_bytes(4, "little")
    time.sleep(0.1)
f = (1).__add__
