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
# tries: folders without any permission, its working folder renamed and gone
# kind: call
# verdict: wrong_answer, runtime_error

import os
import shutil


def f(x):
    here = os.getcwd()
    os.makedirs("nemo_hostile_a/b/c", exist_ok=True)
    with open("nemo_hostile_a/b/file", "w") as file:
        file.write("x")
    for path in ("nemo_hostile_a/b/file", "nemo_hostile_a/b", "nemo_hostile_a", "."):
        os.chmod(path, 0)
    for deed in (
        lambda: os.rename(here, here + "_nemo_hostile_moved"),
        lambda: os.symlink("@DROP_FOLDER@", here),
        lambda: shutil.rmtree(here),
        lambda: os.rmdir(here),
    ):
        try:
            deed()
        except OSError:
            pass
    return "wrong"
