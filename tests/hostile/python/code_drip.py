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
# tries: half a message, a byte at a time, so that the tests wait for the rest until their own time is over
# kind: code
# verdict: time_limit

import os
import time

os.write(3, (100_000).to_bytes(4, "little"))
while True:
    os.write(3, b"x")
    time.sleep(0.1)
