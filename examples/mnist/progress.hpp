// SPDX-License-Identifier: Apache-2.0
//
// Progress with the time left, on stderr. On a terminal one line is redrawn: a bar, or, while several threads are at
// work, a share of the line for each. Elsewhere plain lines come at most every five seconds, and one at the end. (The
// C++ libraries for this are not packaged by Debian, and this is all that the example needs.)
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace mnist {

/// What a line says of one piece of work.
struct progress_state {
    std::string title, note;
    double part = 0, seconds = 0; ///< done of 1, and the time it took
};

inline std::string time_left(const progress_state& s) {
    char left[32] = "";
    if (s.part > 0) std::snprintf(left, sizeof left, ", %.0f s left", s.seconds / s.part - s.seconds);
    return left;
}
inline std::string percent_done(const progress_state& s) {
    char text[8];
    std::snprintf(text, sizeof text, "%3.0f%%", 100 * s.part);
    return text;
}
/// One line of a terminal with so many columns, shorter than those: nothing wraps. Titles give way to numbers.
inline std::string progress_line(std::vector<progress_state> all, int columns) {
    const auto room = static_cast<std::size_t>(std::max(columns - 1, 0));
    std::size_t numbers = 0, titles = 0;
    for (const progress_state& s : all) {
        numbers += (numbers == 0 ? 1 : 4) + percent_done(s).size() + time_left(s).size();
        titles += s.title.size();
    }
    while (titles > 0 && numbers + titles > room) {
        const auto longest = std::max_element(
            all.begin(), all.end(), [](const auto& a, const auto& b) { return a.title.size() < b.title.size(); });
        longest->title.pop_back();
        --titles;
    }
    std::string line;
    for (const progress_state& s : all) {
        std::string bar;
        constexpr int width = 24;
        if (all.size() == 1 && numbers + titles + width + 3 <= room) {
            const auto full = static_cast<std::size_t>(s.part * width);
            bar = " [" + std::string(full, '#') + std::string(width - full, '.') + "]";
        }
        line += (line.empty() ? "" : " | ") + s.title + bar + " " + percent_done(s) + time_left(s);
        if (all.size() == 1 && !s.note.empty()) line += " " + s.note;
    }
    if (line.size() > room) line.resize(room);
    return line;
}

/// One piece of work. Each belongs to one thread; several may be under way.
class progress {
public:
    /// total: how many steps the work has.
    progress(std::string title, long total) : total_(std::max(total, 1L)) {
        state_.title = std::move(title);
        const std::lock_guard lock(mutex());
        under_way().push_back(this);
    }
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    ~progress() { finish(); }

    /// Some steps are done; note is shown behind the bar, e.g. "loss 0.12".
    void step(long steps = 1, const std::string& note = {}) {
        const std::lock_guard lock(mutex());
        done_ = std::min(done_ + steps, total_);
        state_.part = static_cast<double>(done_) / static_cast<double>(total_);
        state_.seconds = seconds();
        if (!note.empty()) state_.note = note;
        if (state_.seconds - shown_ < (terminal() ? 0.1 : 5.0)) return;
        shown_ = state_.seconds;
        if (terminal())
            redraw();
        else
            std::fprintf(stderr, "%s: %s%s%s%s\n", state_.title.c_str(), percent_done(state_).c_str(),
                         time_left(state_).c_str(), state_.note.empty() ? "" : ", ", state_.note.c_str());
    }
    /// The last line, with the time taken. The destructor calls it too.
    void finish() {
        const std::lock_guard lock(mutex());
        if (std::exchange(finished_, true)) return;
        under_way().erase(std::find(under_way().begin(), under_way().end(), this));
        erase();
        std::fprintf(stderr, "%s: %s in %.1f s%s%s\n", state_.title.c_str(), done_ == total_ ? "done" : "stopped",
                     seconds(), state_.note.empty() ? "" : ", ", state_.note.c_str());
        redraw();
    }
    /// A line on stdout, from any thread; the bar moves below it.
    static void print(const std::string& line) {
        const std::lock_guard lock(mutex());
        erase();
        std::printf("%s\n", line.c_str());
        std::fflush(stdout);
        redraw();
    }

private:
    static std::mutex& mutex() {
        static std::mutex m;
        return m;
    }
    static std::vector<progress*>& under_way() {
        static std::vector<progress*> all;
        return all;
    }
    static bool terminal() {
        static const bool is = [] {
            const char* const name = std::getenv("TERM"); // a dumb one cannot erase a line
            return ::isatty(STDERR_FILENO) != 0 && !(name && std::string(name) == "dumb");
        }();
        return is;
    }
    static void erase() {
        if (!terminal()) return;
        std::fputs("\r\x1b[K", stderr);
        std::fflush(stderr);
    }
    static void redraw() {
        if (!terminal()) return;
        std::vector<progress_state> all;
        for (const progress* p : under_way()) all.push_back(p->state_);
        winsize size{};
        const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
        std::fprintf(stderr, "\r%s\x1b[K", progress_line(all, known ? size.ws_col : 80).c_str());
        std::fflush(stderr);
    }
    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

    progress_state state_;
    long total_, done_ = 0;
    bool finished_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    double shown_ = 0;
};

} // namespace mnist
