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
# An earlier program that leaves a word for later ones wherever it can; it claims nothing else.
import os
import sys

WORD = "@PLANT@"

for folder in (".", "/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue", "@DROP_FOLDER@"):
    try:
        with open(folder + "/nemo_hostile_plant", "w") as file:
            file.write(WORD)
    except OSError:
        pass
os.environ["PLANTED"] = WORD
os.planted = sys.planted = __builtins__.planted = WORD
sys.modules["planted"] = sys
for fd in range(256):
    try:
        os.pwrite(fd, WORD.encode() * 100, 4096)
    except OSError:
        pass


def f(x):
    return [WORD] * 1000


if __name__ == "__main__":
    print(WORD * 1000, flush=True)
    print(sys.stdin.read(), file=sys.stderr, flush=True)
