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
# tries: a file of a terabyte without contents
# kind: call
# verdict: runtime_error, wrong_answer

import os


def f(x):
    with open("nemo_hostile_sparse", "wb") as file:
        os.ftruncate(file.fileno(), 2**40)
    return "LEAK a terabyte" if os.stat("nemo_hostile_sparse").st_size == 2**40 else "nothing"
