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
// tries: to ask the compiler which files exist
// minimum: namespaces
// verdict: wrong_answer

#include <cstdio>
int main() {
#if __has_include("@SECRET_FILE@") || __has_include("@HOME_SECRET@") || __has_include("@REPOSITORY@/setup.py")
    std::puts("LEAK the file is there");
#endif
#if __has_include("/etc/shadow") || __has_include("/proc/self/environ")
    std::puts("LEAK the host's files are there");
#endif
    std::puts("nothing");
}
