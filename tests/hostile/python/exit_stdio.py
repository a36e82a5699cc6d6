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
# tries: a whole program that prints "passed" and leaves with status 0
# kind: stdio
# verdict: wrong_answer

import os

print("passed\nOK\nAll tests passed\nexit 0")
print('{"passed": true, "status": "passed"}', flush=True)
os._exit(0)
