// SPDX-License-Identifier: Apache-2.0
//
// A progress bar with the time left, on stderr. On a terminal one line is redrawn; elsewhere plain
// lines come at most every five seconds, and one at the end. (The C++ libraries for this are not
// packaged by Debian, and this is all that the example needs.)
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

namespace mnist {

class progress {
public:
    /// total: how many steps the work has.
    progress(std::string title, long total)
        : title_(std::move(title)), total_(std::max(total, 1L)) {}
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    ~progress() { finish(); }

    /// Some steps are done; note is shown behind the bar, e.g. "loss 0.12".
    void step(long steps = 1, const std::string& note = {}) {
        done_ = std::min(done_ + steps, total_);
        if (!note.empty()) note_ = note;
        const double now = seconds();
        if (now - shown_ < (terminal_ ? 0.1 : 5.0)) return;
        shown_ = now;
        show(now);
    }
    /// The last line, with the time taken. The destructor calls it too.
    void finish() {
        if (std::exchange(finished_, true)) return;
        std::fprintf(stderr, "%s%s: %s in %.1f s%s%s%s\n", terminal_ ? "\r" : "", title_.c_str(),
                     done_ == total_ ? "done" : "stopped", seconds(), note_.empty() ? "" : ", ",
                     note_.c_str(), terminal_ ? "\x1b[K" : "");
    }

private:
    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }
    void show(double now) const {
        const double part = static_cast<double>(done_) / static_cast<double>(total_);
        char left[32] = "";
        if (done_ > 0) std::snprintf(left, sizeof left, ", %.0f s left", now / part - now);
        if (terminal_) {
            constexpr int width = 24;
            const int full = static_cast<int>(part * width);
            const std::string bar = std::string(static_cast<std::size_t>(full), '#') +
                                    std::string(static_cast<std::size_t>(width - full), '.');
            std::fprintf(stderr, "\r%s [%s] %3.0f%%%s %s\x1b[K", title_.c_str(), bar.c_str(),
                         100 * part, left, note_.c_str());
            std::fflush(stderr);
        } else {
            std::fprintf(stderr, "%s: %.0f%%%s%s%s\n", title_.c_str(), 100 * part, left,
                         note_.empty() ? "" : ", ", note_.c_str());
        }
    }

    std::string title_, note_;
    long total_, done_ = 0;
    bool terminal_ = ::isatty(STDERR_FILENO) != 0, finished_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    double shown_ = 0;
};

} // namespace mnist
