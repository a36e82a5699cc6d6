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
# tries: a candidate that is no function but an object with opinions
# kind: code
# verdict: wrong_answer, runtime_error


class Candidate:
    def __call__(self, *args, **kwargs):
        return self

    __eq__ = lambda self, other: True
    __hash__ = lambda self: 0
    __getattr__ = lambda self, name: self
    __class__ = str


f = Candidate()
