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
# tries: list, dict and tuple subclasses that change with every look
# kind: call
# verdict: wrong_answer, runtime_error

import collections


class Sly(list):
    looks = 0
    __eq__ = lambda self, other: True

    def __iter__(self):
        type(self).looks += 1
        return iter([self] * type(self).looks)

    def __len__(self):
        return 2


class SlyDict(collections.OrderedDict):
    __eq__ = lambda self, other: True
    items = lambda self: [("k", self)]


class SlyTuple(tuple):
    _fields = ("a", "b")
    __eq__ = lambda self, other: True


def f(x):
    return {1: SlyTuple([1]), 2: Sly([1, 2])}.get(x if isinstance(x, int) else 0, SlyDict(k=1))
