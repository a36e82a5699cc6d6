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
# tries: the user names of the host, its mounts and its network
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import os


def f(x):
    found = []
    for path in ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/fstab", "/etc/machine-id"):
        try:
            with open(path) as file:
                text = file.read()
            if "home" in text or "bash" in text or "nameserver" in text or path.endswith(("machine-id", "fstab")):
                found.append("LEAK " + path)
        except OSError:
            pass
    try:
        with open("/proc/net/tcp") as file:
            if f"{int('@TCP4_PORT@'):04X}" in file.read():
                found.append("LEAK /proc/net/tcp")
    except OSError:
        pass
    return found or "nothing"
