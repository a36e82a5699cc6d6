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
# tries: to change the modules that later programs import
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import json
import os
import sys


def f(x):
    done = []
    for module in (json, os, sys.modules.get("encodings")):
        path = getattr(module, "__file__", None) or ""
        for target in (path, os.path.dirname(path) + "/nemo_hostile.py", os.path.dirname(path) + "/__pycache__/x.pyc"):
            try:
                with open(target, "a") as file:
                    file.write("")
                done.append(target)
            except OSError:
                pass
    return f"LEAK {done}" if done else "nothing"
