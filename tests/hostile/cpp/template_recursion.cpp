// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
//
// tries: templates without end, in depth and in breadth
// verdict: compile_error

template <int N, int M> struct Bomb {
    static const int value = Bomb<N + 1, M>::value + Bomb<N + 1, M + 1>::value;
};
int main() { return Bomb<0, 0>::value; }
