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
# tries: to read what an earlier program left in files, shared memory, descriptors and variables
# kind: call
# before: plant
# verdict: wrong_answer

import os
import re
import sys

TOKEN = re.compile(rb"nemo-canary-[0-9a-f]{16}")


def f(x):
    found = set()
    for top in (".", "/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/dev/mqueue"):
        for folder, _, names in os.walk(top):
            if folder.count("/") > 4:
                continue
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if os.path.isfile(path) and "nemo_hostile_plant" in path:
                        found.add("LEAK " + path)
                        with open(path, "rb") as file:
                            found.update(t.decode() for t in TOKEN.findall(file.read(2**20)))
                except OSError:
                    pass
    for fd in range(256):
        try:
            found.update(t.decode() for t in TOKEN.findall(os.pread(fd, 2**20, 0)))
        except OSError:
            pass
    for holder in (os, sys, __builtins__):
        if hasattr(holder, "planted"):
            found.add("LEAK attribute")
    if "PLANTED" in os.environ:
        found.add("LEAK environment")
    return sorted(found)[:5] or "nothing"
