// SPDX-License-Identifier: Apache-2.0
//
// A decoder as of a language model, one token a step: weights in fp32, in groups of 8 or 4 bits, with real or 8-bit
// activations, each with the keys and values of earlier tokens in fp32 or in 8 bits. The weights are random; what is
// measured is the speed against that of memory, and how far the hidden states move. Memory is read in turns with the
// steps, as many bytes as a step reads of weights and caches. Fails if another instruction set or two threads give
// other floats, or if 8 bits have a cosine below 0.99.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../../bench/bandwidth.hpp"
#include "../../../bench/common/threads.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "network.hpp"

namespace decode {
namespace {

/// Threads started for each call: enough to show that results do not depend on them, however busy the machine is.
struct two_threads {
    [[nodiscard]] index_t concurrency() const { return 2; }
    void run(index_t n, notch::task_ref task) const {
        std::thread other([=] {
            for (index_t i = 1; i < n; i += 2) task(i);
        });
        for (index_t i = 0; i < n; i += 2) task(i);
        other.join();
    }
};

struct variant {
    const char* method;
    const char* bits;
    arithmetic products;
    const group_weights* weights;
    bool cache_codes;

    // measured
    std::unique_ptr<decoder> run = {};
    std::vector<float> hidden = {}; ///< tokens x width
    double last = 1, least = 1;     ///< cosines of the hidden states to those of fp32
    double added = 1;               ///< of the last one less its input: what the blocks added
    std::int64_t different = 0;
    /// By one thread and by all: ms, and of these the part in which memory is read at full speed.
    std::array<std::vector<double>, 2> step = {}, share = {};

    [[nodiscard]] std::string name() const {
        return std::string(method) + (cache_codes ? ", 8-bit cache" : ", fp32 cache");
    }
    [[nodiscard]] std::unique_ptr<decoder> start(const real_weights& w, index_t capacity) const {
        return std::make_unique<decoder>(w, weights, products, cache_codes, capacity);
    }
};

double cosine(const float* a, const float* b, const float* less, index_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (index_t i = 0; i < n; ++i) {
        const double x = static_cast<double>(a[i]) - (less ? static_cast<double>(less[i]) : 0.0),
                     y = static_cast<double>(b[i]) - (less ? static_cast<double>(less[i]) : 0.0);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return ab / std::sqrt(aa * bb);
}

/// Decodes the inputs (tokens x width), each as it stands there.
std::vector<float> decode_all(decoder& d, const std::vector<float>& inputs, index_t tokens, const context& ctx) {
    const std::size_t width = inputs.size() / static_cast<std::size_t>(tokens);
    std::vector<float> x = inputs;
    for (index_t t = 0; t < tokens; ++t) d.step({x.data() + static_cast<std::size_t>(t) * width, width}, ctx);
    return x;
}

struct options {
    index_t tokens, checked;
    int rounds, threads;
};

/// Bytes that are read to measure memory: as many as a step reads, but no more than these.
constexpr std::int64_t most_read = std::int64_t{256} << 20;

template <class F> double milliseconds(const F& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

/// Reads bytes of memory, each thread a part.
void read_memory(const notch::buffer<char>& memory, std::int64_t bytes, const context& ctx) {
    const index_t threads = ctx.executor.concurrency(), share = bytes / threads / 64 * 64;
    notch::detail::parallel(ctx.executor, threads, [&](index_t t) {
        bandwidth::read_pass(memory.data() + t * share, static_cast<std::size_t>(share));
    });
}

bool run(const shape& s, const options& o, unsigned seed, std::vector<models::result>& rows) {
    const real_weights real(s, seed);
    const auto eight = group_weights::of<8>(real), four = group_weights::of<4>(real);
    std::vector<variant> all;
    for (const bool codes : {false, true}) {
        all.push_back({"Eigen", "fp32", arithmetic::fp32, nullptr, codes});
        all.push_back({"weight-only", "w8", arithmetic::weight_only, &eight, codes});
        all.push_back({"weight-only", "w4", arithmetic::weight_only, &four, codes});
        all.push_back({"dynamic", "w8a8", arithmetic::codes, &eight, codes});
        all.push_back({"dynamic", "w4a8", arithmetic::codes, &four, codes});
    }
    std::mt19937 random(seed + 1);
    std::normal_distribution<float> draw;
    std::vector<float> inputs(static_cast<std::size_t>((o.tokens + 1) * s.width));
    for (float& x : inputs) x = draw(random);
    const std::vector<float> next(inputs.end() - static_cast<std::ptrdiff_t>(s.width), inputs.end());
    inputs.resize(inputs.size() - next.size());

    std::printf("%td blocks of width %td, %td heads on %td of %td, inner %td; %td tokens\n", s.blocks, s.width, s.heads,
                s.kv_heads, s.head_size, s.inner, o.tokens);
    const context ctx;
    for (variant& v : all) {
        v.run = v.start(real, o.tokens + 1);
        v.hidden = decode_all(*v.run, inputs, o.tokens, ctx);
        const auto& reference = all.front().hidden;
        for (index_t t = 0; t < o.tokens; ++t) {
            const index_t at = t * s.width;
            v.last = cosine(v.hidden.data() + at, reference.data() + at, nullptr, s.width);
            v.added = cosine(v.hidden.data() + at, reference.data() + at, inputs.data() + at, s.width);
            v.least = std::min(v.least, v.last);
        }
        if (v.products == arithmetic::fp32) continue;
        const std::vector<float> first(inputs.begin(),
                                       inputs.begin() + static_cast<std::ptrdiff_t>(o.checked * s.width));
        const two_threads two;
        for (notch::isa i : notch::available_isas())
            for (const notch::executor_ref& threads : {notch::executor_ref(), notch::executor_ref(two)}) {
                const auto other = v.start(real, o.checked);
                const auto hidden = decode_all(*other, first, o.checked, context(i, threads));
                for (std::size_t k = 0; k < hidden.size(); ++k)
                    v.different += std::memcmp(&hidden[k], &v.hidden[k], sizeof(float)) != 0;
            }
    }

    const notch::buffer<char> memory(most_read);
    bench::spinning_threads team(o.threads);
    std::vector<context> contexts(1);
    if (o.threads > 1) contexts.emplace_back(team);
    std::vector<float> x;
    for (int r = 0; r <= o.rounds; ++r)
        for (variant& v : all)
            for (std::size_t c = 0; c < (v.products == arithmetic::fp32 ? 1 : contexts.size()); ++c) {
                v.run->truncate(o.tokens);
                x = next;
                const std::int64_t bytes = std::min(v.run->bytes(), most_read);
                const double read = milliseconds([&] { read_memory(memory, bytes, contexts[c]); });
                const double step = milliseconds([&] { v.run->step(x, contexts[c]); });
                v.run->truncate(o.tokens);
                if (r == 0) continue;
                v.step[c].push_back(step);
                v.share[c].push_back(read / static_cast<double>(bytes) * static_cast<double>(v.run->bytes()) / step);
            }

    std::printf("%-26s %-5s %7s %9s %9s %9s %9s  %8s %8s %8s\n", "", "", "threads", "tokens/s", "MB/token", "GB/s",
                "of memory", "cosine", "least", "added");
    bool good = true;
    const double fp32_ms = models::median(all.front().step[0]), fp32_share = models::median(all.front().share[0]);
    for (const variant& v : all) {
        good = good && v.different == 0 && (v.weights == &four || v.least >= 0.99);
        const std::int64_t size = v.weights ? v.weights->bytes() : real.bytes();
        for (std::size_t c = 0; c < 2 && !v.step[c].empty(); ++c) {
            const double ms = models::median(v.step[c]), share = models::median(v.share[c]),
                         bytes = static_cast<double>(v.run->bytes());
            const int threads = c == 0 ? 1 : o.threads;
            std::printf("%-26s %-5s %7d %9.1f %9.1f %9.1f %7.0f %%  %8.5f %8.5f %8.5f%s\n", v.name().c_str(), v.bits,
                        threads, 1000.0 / ms, bytes * 1e-6, bytes * 1e-6 / ms, 100.0 * share, v.last, v.least, v.added,
                        v.different ? "   OTHER FLOATS" : "");
            const auto row = [&](const char* metric, double value, double fp32) {
                const std::string name = v.name() + (c == 0 ? "" : ", " + std::to_string(threads) + " threads");
                rows.push_back({"decoder", name, v.bits, metric, value, fp32, size, ms, {}, {}});
            };
            row("tokens/s", 1000.0 / ms, 1000.0 / fp32_ms);
            row("share of the read bandwidth", share, fp32_share);
            if (c > 0) continue;
            row("cosine", v.last, 1.0);
            row("cosine of what is added", v.added, 1.0);
        }
    }
    return good;
}

} // namespace
} // namespace decode

int main(int argc, char** argv) {
    std::string out;
    unsigned seed = 1;
    decode::shape s{2048, 16, 16, 128, 5632, 4};
    decode::options o{256, 2, 41, 1};
    bool quick = false;
    CLI::App app("A decoder with quantized weights and an 8-bit cache of keys and values, one token a step");
    app.add_option("--out", out, "file of the results");
    app.add_option("--seed", seed, "of the weights")->capture_default_str();
    app.add_option("--blocks", s.blocks, "")->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--kv-heads", s.kv_heads, "heads of keys and values for the 16 of queries")
        ->check(CLI::IsMember({1, 2, 4, 8, 16}))
        ->capture_default_str();
    app.add_option("--tokens", o.tokens, "that are decoded before the timings")
        ->check(CLI::Range(2, 32768))
        ->capture_default_str();
    app.add_option("--rounds", o.rounds, "tokens that are timed")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--threads", o.threads, "so many as well, but for fp32")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_flag("--quick", quick, "a tiny decoder with 4 heads on 2");
    CLI11_PARSE(app, argc, argv);
    try {
        if (quick) {
            s = {128, 4, 2, 32, 192, 2};
            o = {24, 24, 5, o.threads};
        }
        std::vector<models::result> rows;
        const bool good = decode::run(s, o, seed, rows);
        if (!out.empty()) models::write_results(out, rows);
        if (good) return 0;
        std::fprintf(stderr, "models_decode: floats differ, or 8 bits have a cosine below 0.99\n");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_decode: %s\n", e.what());
    }
    return 1;
}
