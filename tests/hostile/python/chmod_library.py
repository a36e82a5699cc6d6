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
# tries: to change the mode of the standard library by an open folder of it, which Landlock does not forbid
# kind: call
# verdict: wrong_answer

import os


def f(x):
    for path in (os.path.dirname(os.__file__), os.__file__, "/dev/null"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fchmod(fd, os.fstat(fd).st_mode & 0o7777)
            return "LEAK it can"
        except OSError:
            pass
    return "nothing"
