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
# tries: to find expected values, secrets and traces of earlier programs anywhere in its own memory
# kind: call
# before: plant
# verdict: wrong_answer
# time: 4
# memory: 512

import ctypes
import os
import re

TOKEN = re.compile(rb"nemo-canary-[0-9a-f]{16}")


def readable():
    """Yield chunks of what is mapped: by /proc where it is there, else by asking the kernel to copy from addresses."""
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps.read().splitlines():
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                if line.split()[1][0] == "r" and "[v" not in line:
                    try:
                        memory.seek(start)
                        yield memory.read(min(end - start, 2**25))
                    except (OSError, ValueError, OverflowError):
                        pass
        return
    except OSError:
        pass
    libc = ctypes.CDLL(None)
    fd = os.open("scan", os.O_RDWR | os.O_CREAT)
    os.unlink("scan")
    for centre in (
        id(object()),
        id(None),
        id([]),
        id(b"x" * 10**6),
        ctypes.addressof(ctypes.c_int.in_dll(libc, "environ")),
    ):
        for address in range((centre >> 20 << 20) - 2**25, centre + 2**25, 2**20):
            got = libc.pwrite(fd, ctypes.c_void_p(address), ctypes.c_size_t(2**20), ctypes.c_long(0))
            if got > 0:
                yield os.pread(fd, got, 0)


def f(x):
    if x != 1:
        return "nothing"
    found = set()
    for chunk in readable():
        found.update(TOKEN.findall(chunk))
    return sorted(token.decode() for token in found)[:4] or "nothing"
