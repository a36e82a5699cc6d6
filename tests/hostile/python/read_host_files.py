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
# tries: secrets of the host and of the user through the file system
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import os
import re


def f(x):
    found = []
    for path in (
        "/etc/shadow",
        "/etc/gshadow",
        "@SECRET_FILE@",
        "@HOME_SECRET@",
        os.path.expanduser("~/.bash_history"),
        os.path.dirname("@HOME_SECRET@") + "/.ssh/id_rsa",
        "/root/.bashrc",
        "/proc/self/root/@SECRET_FILE@",
        "/proc/self/cwd/../../../../..@SECRET_FILE@",
        "/../../@SECRET_FILE@",
        "/oldroot/etc/shadow",
        "/.oldroot/etc/shadow",
        "/newroot/etc/shadow",
        "/var/log/dpkg.log",
        "/var/run/docker.sock",
    ):
        try:
            with open(path, "rb") as file:
                text = file.read(10_000)
            found += [t.decode() for t in re.findall(rb"nemo-canary-[0-9a-f]{16}", text)]
            found.append("LEAK " + path)
        except OSError:
            pass
    for folder in ("/home", os.path.dirname("@SECRET_FILE@"), "/mnt", "/media", "/srv", "/boot", "/var"):
        try:
            if names := os.listdir(folder):
                found.append(f"LEAK {folder}: {names[:3]}")
        except OSError:
            pass
    return found[:5] or "nothing"
