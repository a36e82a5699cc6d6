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
# tries: objects and metaclasses that claim to be a plain type
# kind: call
# verdict: wrong_answer, runtime_error


class Meta(type):
    __eq__ = lambda self, other: True
    __hash__ = lambda self: hash(str)
    __instancecheck__ = lambda self, other: True
    __name__ = "str"


class Lie(metaclass=Meta):
    __class__ = str
    __eq__ = lambda self, other: True
    __hash__ = lambda self: 0
    __str__ = __repr__ = lambda self: "nothing"
    encode = lambda self, *a: b"nothing"
    __getattr__ = lambda self, name: lambda *a, **k: self


def f(x):
    return Lie()
