// SPDX-License-Identifier: Apache-2.0
//
// The executor that benchmarks hand to notch: threads that spin between calls, as the pools of
// OpenMP runtimes do while calls follow each other closely.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include <notch/core/parallel.hpp>

namespace bench {

class spinning_threads {
public:
    explicit spinning_threads(int count) {
        for (int i = 1; i < count; ++i) others_.emplace_back([this, i] { serve(i); });
    }
    ~spinning_threads() {
        task_ = {};
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
        for (std::thread& t : others_) t.join();
    }
    spinning_threads(const spinning_threads&) = delete;
    spinning_threads& operator=(const spinning_threads&) = delete;

    notch::index_t concurrency() const { return static_cast<notch::index_t>(others_.size()) + 1; }
    void run(notch::index_t n, notch::task_ref task) {
        task_ = task;
        count_ = n;
        busy_.store(static_cast<int>(others_.size()), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
        work(0);
        while (busy_.load(std::memory_order_acquire) != 0) pause();
    }

private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        std::this_thread::yield();
#endif
    }
    void work(notch::index_t first) {
        for (notch::index_t i = first; i < count_; i += concurrency()) task_(i);
    }
    void serve(int me) {
        for (unsigned seen = 0;;) {
            for (int spins = 0; round_.load(std::memory_order_acquire) == seen; ++spins) {
                if (spins < 20000)
                    pause();
                else
                    round_.wait(seen, std::memory_order_acquire); // nothing to do for a while
            }
            ++seen;
            if (!task_.call) return;
            work(me);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> others_;
    std::atomic<unsigned> round_{0};
    std::atomic<int> busy_{0};
    notch::task_ref task_;
    notch::index_t count_ = 0;
};

} // namespace bench
