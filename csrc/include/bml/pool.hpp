// The threads that parallel.hpp works with: the process's own, started when first needed, asleep between
// jobs.
//
// Waking one costs microseconds; an OpenMP team gone cold costs milliseconds, and a second OpenMP runtime in
// a process may clash with the first. They never touch Python. A fork leaves the child without them: it
// starts its own. At exit they end with the process: nothing here has a destructor that a sleeping thread
// could hold up.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace bml {

struct Job {
    void (*call)(void* work, std::int64_t unit);
    void* work;
    std::int64_t n_units;
    std::atomic<std::int64_t> next{0};

    void run() noexcept {
        for (std::int64_t unit = next++; unit < n_units; unit = next++) call(work, unit);
    }
};

struct Pool {  // one job at a time
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER, left = PTHREAD_COND_INITIALIZER;
    Job* job = nullptr;  // set: the pool is taken
    int started = 0, wanted = 0, helping = 0;

    // False when the pool has another job, maybe the one this call is part of: then nothing was done.
    bool run(Job& mine, int helpers) {
        pthread_mutex_lock(&lock);
        const bool is_free = job == nullptr;
        if (is_free) {
            job = &mine;
            while (started < helpers && start()) ++started;
            wanted = std::min(helpers, started);
            for (int i = 0; i < wanted; ++i) pthread_cond_signal(&wake);
        }
        pthread_mutex_unlock(&lock);
        if (!is_free) return false;
        mine.run();
        pthread_mutex_lock(&lock);
        wanted = 0;  // who has not come by now finds nothing to do
        while (helping > 0) pthread_cond_wait(&left, &lock);
        job = nullptr;
        pthread_mutex_unlock(&lock);
        return true;
    }

    // A thread that gets none of the process's signals but those of its own faults. False: the system has no
    // more.
    bool start() {
        sigset_t all, before;
        sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_t made;
        const auto help = [](void* pool) -> void* { static_cast<Pool*>(pool)->help(); };
        const bool ok = pthread_create(&made, nullptr, help, this) == 0;
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return ok && pthread_detach(made) == 0;
    }

    [[noreturn]] void help() {
        pthread_mutex_lock(&lock);
        for (;;) {
            while (wanted == 0) pthread_cond_wait(&wake, &lock);
            --wanted, ++helping;
            Job* const mine = job;
            pthread_mutex_unlock(&lock);
            mine->run();
            pthread_mutex_lock(&lock);
            if (--helping == 0) pthread_cond_signal(&left);
        }
    }
};

inline constinit Pool pool;
inline const int forks_are_seen = pthread_atfork(nullptr, nullptr, [] { pool = Pool{}; });

}  // namespace bml
