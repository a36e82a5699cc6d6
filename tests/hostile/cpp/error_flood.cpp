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
// tries: compiler messages without end
// verdict: compile_error

#define E1(n) int a##n = undeclared_##n + "text" * nullptr; void f##n() { return undeclared_##n(); }
#define E2(n) E1(n##0) E1(n##1) E1(n##2) E1(n##3) E1(n##4) E1(n##5) E1(n##6) E1(n##7) E1(n##8) E1(n##9)
#define E3(n) E2(n##0) E2(n##1) E2(n##2) E2(n##3) E2(n##4) E2(n##5) E2(n##6) E2(n##7) E2(n##8) E2(n##9)
asm(".rept 3000000\n .warning \"a warning as long as anyone could want it to be in a message of the assembler\"\n .endr\n");
int main() {}
E3(1) E3(2) E3(3)
