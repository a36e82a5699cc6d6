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
# tries: memory that is mapped rather than allocated: private, shared, by file
# kind: call
# verdict: memory_limit, runtime_error, time_limit, wrong_answer

import mmap
import tempfile


def f(x):
    kept = []
    for flags in (mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        try:
            for _ in range(64):
                kept.append(mmap.mmap(-1, 2**25, flags))
                kept[-1].write(b"x" * 2**25)
        except (OSError, MemoryError):
            pass
    if len(kept) > 60:
        return "LEAK 2 GiB"
    try:
        for _ in range(64):
            with tempfile.TemporaryFile() as file:
                file.truncate(2**25)
                kept.append(mmap.mmap(file.fileno(), 2**25))
                kept[-1].write(b"x" * 2**25)
    except (OSError, MemoryError):
        pass
    return "LEAK 2 GiB" if len(kept) > 60 else "nothing"
