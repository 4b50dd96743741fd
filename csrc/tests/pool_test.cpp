// The pool of parallel.hpp: every unit once, from several threads at once, nested, and in forked children.
// Run by run.sh under ASan and UBSan and under TSan. With the argument "time" it measures instead.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "bml/parallel.hpp"

namespace {

using std::int64_t;
int failures = 0;

#define CHECK(condition) check((condition), #condition, __LINE__)
void check(bool ok, const char* what, int line) {
    if (ok) return;
    std::printf("pool_test.cpp:%d: failed: %s\n", line, what);
    ++failures;
}

// Plain memory, one cell a unit: a unit done twice at once, or not done when the call returns, is a data
// race.
bool every_unit_once(int threads, int64_t n_units) {
    std::vector<int> done(static_cast<std::size_t>(n_units));
    bml::parallel_for(threads, n_units, [&](int64_t unit) { ++done[static_cast<std::size_t>(unit)]; });
    for (const int times : done)
        if (times != 1) return false;
    return true;
}

void test_nothing_starts_without_need() {
    CHECK(every_unit_once(1, 100) && every_unit_once(8, 1) && every_unit_once(8, 0) &&
          bml::pool.started == 0);
    CHECK(every_unit_once(2, 2) && bml::pool.started == 1);
}

void test_units() {
    for (int threads = 1; threads <= 9; ++threads)
        for (int64_t n_units = 0; n_units < 40; ++n_units) CHECK(every_unit_once(threads, n_units));
    for (int i = 0; i < 3000; ++i) CHECK(every_unit_once(1 + i % 4, 5));
    CHECK(bml::pool.started == 8);
}

void test_callers_at_once() {
    std::vector<int> ok(4);
    std::vector<std::thread> callers;
    for (int& mine : ok)
        callers.emplace_back([&mine] {
            for (int i = 0; i < 500; ++i) mine += every_unit_once(1 + i % 5, 7);
        });
    for (std::thread& caller : callers) caller.join();
    for (const int mine : ok) CHECK(mine == 500);
}

void test_nested() {
    std::vector<int> sums(20);
    bml::parallel_for(4, 20, [&](int64_t unit) {
        bml::parallel_for(
            4, unit, [&](int64_t inner) { sums[static_cast<std::size_t>(unit)] += static_cast<int>(inner); });
    });
    for (int unit = 0; unit < 20; ++unit)
        CHECK(sums[static_cast<std::size_t>(unit)] == unit * (unit - 1) / 2);
}

// Forks while another thread keeps the pool busy, so that the child inherits it in any state.
// What a unit throws reaches the caller, from whichever thread, and the pool works on.
void test_exceptions() {
    for (const int threads : {1, 2, 4})
        for (int i = 0; i < 50; ++i) {
            bool caught = false;
            try {
                bml::parallel_for(threads, 20, [&](int64_t unit) {
                    if (unit % 7 == 3) throw std::bad_alloc();
                });
            } catch (const std::bad_alloc&) {
                caught = true;
            }
            CHECK(caught && every_unit_once(threads, 9));
        }
}

void test_fork() {
#ifdef __SANITIZE_THREAD__
    return;  // this sanitizer does not follow the fork of a process with threads
#endif
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop) every_unit_once(3, 4);
    });
    for (int i = 0; i < 40; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);  // a deadlock ends the child
            const bool fresh = bml::pool.started == 0;
            _exit(fresh && every_unit_once(3, 100) && bml::pool.started == 2 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = true;
    other.join();
    CHECK(every_unit_once(3, 100));
}

// Two units on two threads, called one after another and after pauses in which this thread alone was busy.
void measure() {
    using clock = std::chrono::steady_clock;
    const auto us = [](clock::time_point since) {
        return std::chrono::duration<double, std::micro>(clock::now() - since).count();
    };
    const auto spin = [&](int for_us) {
        for (const auto began = clock::now(); us(began) < for_us;) continue;
    };
    for (const int pause_us : {0, 100, 10000})
        for (const int unit_us : {10, 100, 1000}) {
            std::vector<double> over;
            for (int i = 0; i < 100; ++i) {
                spin(pause_us);
                const auto began = clock::now();
                bml::parallel_for(2, 2, [&](int64_t) { spin(unit_us); });
                over.push_back(us(began) - unit_us);
                if (over.size() == 1 && bml::pool.started == 1 && pause_us == 0 && unit_us == 10)
                    std::printf("first call, one thread started: %.1f us over one unit\n", over[0]);
            }
            std::sort(over.begin(), over.end());
            std::printf("after %5d us, two units of %4d us: %5.1f us over one unit (median), %5.1f (90 %%)\n",
                        pause_us, unit_us, over[50], over[90]);
        }
}

}  // namespace

int main(int n, char** arguments) {
    if (n > 1 && std::strcmp(arguments[1], "time") == 0) return measure(), 0;
    test_nothing_starts_without_need();
    test_units();
    test_callers_at_once();
    test_nested();
    test_exceptions();
    test_fork();
    std::printf(failures ? "%d failed\n" : "pool_test: all passed\n", failures);
    return failures != 0;
}
