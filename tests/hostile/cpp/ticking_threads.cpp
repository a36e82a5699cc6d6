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
// tries: to look like a program that a busy machine kept from the processor: a hundred threads that tick together
// verdict: time_limit
// seconds: 6
#include <ctime>
#include <pthread.h>
static void *tick(void *) {
    for (timespec now;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        timespec rest{0, 10'000'000 - now.tv_nsec % 10'000'000};
        nanosleep(&rest, nullptr);
    }
}
int main() {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    pthread_t thread;
    for (int i = 0; i < 100; ++i) pthread_create(&thread, &small, tick, nullptr);
    tick(nullptr);
}
