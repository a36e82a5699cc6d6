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
# tries: to keep the judge busy with millions of empty answers
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


for region in list(regions()):
    region[8:] = b"\n" * (len(region) - 8)
    region[:8] = b"\xff" * 8
os._exit(0)
