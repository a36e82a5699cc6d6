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
# tries: files outside its working folder
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import os
import sys


def f(x):
    here = os.getcwd()
    for folder in (
        "@DROP_FOLDER@",
        os.path.dirname("@HOME_SECRET@"),
        "@REPOSITORY@",
        "/dev/shm",
        "/var/tmp",
        "/run",
        "/",
        "/usr/lib",
        "/etc",
        *sys.path,
        "/proc/self/root@DROP_FOLDER@",
        "../../../../../..@DROP_FOLDER@",
    ):
        try:
            with open(folder + "/nemo_hostile_dropped", "w") as file:
                file.write("x")
        except OSError:
            pass
        try:
            os.chdir(folder)
            os.mkdir("nemo_hostile_folder")
        except OSError:
            pass
        os.chdir(here)
    try:
        with open("@KEEP_FOLDER@/keep", "w") as file:
            file.write("gone")
    except OSError:
        pass
    for path in ("@KEEP_FOLDER@/keep", "@SECRET_FILE@"):
        for deed in (os.unlink, lambda path: os.chmod(path, 0), lambda path: os.truncate(path, 0)):
            try:
                deed(path)
            except OSError:
                pass
    return "wrong"
