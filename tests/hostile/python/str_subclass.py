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
# tries: a str that equals every str, alone and inside plain containers
# kind: call
# verdict: wrong_answer, runtime_error


class Yes(str):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def __class_getitem__(cls, item):
        return str


def f(x):
    return {1: Yes(), 2: [Yes(), 2]}.get(x if isinstance(x, int) else 0, {"k": Yes()})
