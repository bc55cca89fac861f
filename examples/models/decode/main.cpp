// SPDX-License-Identifier: Apache-2.0
//
// A decoder as of a language model, one token a step: weights in fp32, in groups of 8 or 4 bits, with real or 8-bit
// activations, each with the keys and values of earlier tokens in fp32 or in 8 bits. The weights are random; what is
// measured is the speed against that of memory, and how far the hidden states move. Fails if another instruction set or
// two threads give other floats, or if 8 bits have a cosine below 0.99.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../../bench/bandwidth.hpp"
#include "../results.hpp"
#include "network.hpp"

namespace decode {
namespace {

/// Threads started for each call: enough to show that results do not depend on them.
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
    std::vector<double> ms = {};

    [[nodiscard]] std::string name() const {
        return std::string(method) + (cache_codes ? ", 8-bit cache" : ", fp32 cache");
    }
    [[nodiscard]] std::unique_ptr<decoder> start(const real_weights& w, index_t capacity) const {
        return std::make_unique<decoder>(w, weights, products, cache_codes, capacity);
    }
    [[nodiscard]] double median() const {
        std::vector<double> t = ms;
        std::nth_element(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(t.size() / 2), t.end());
        return t[t.size() / 2];
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
    int rounds;
    std::size_t memory; ///< bytes over which the bandwidth is measured
};

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

    double bandwidth = bandwidth::read_bandwidth(o.memory);
    std::vector<float> x;
    for (int r = 0; r <= o.rounds; ++r)
        for (variant& v : all) {
            v.run->truncate(o.tokens);
            x = next;
            const auto begin = std::chrono::steady_clock::now();
            v.run->step(x, ctx);
            const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
            if (r > 0) v.ms.push_back(time.count());
            v.run->truncate(o.tokens);
        }
    bandwidth = std::max(bandwidth, bandwidth::read_bandwidth(o.memory));

    std::printf("one thread reads %.1f GB/s\n%-26s %-5s %9s %9s %9s  %8s %8s %8s\n", bandwidth * 1e-9, "", "",
                "tokens/s", "MB/token", "of memory", "cosine", "least", "added");
    bool good = true;
    for (const variant& v : all) {
        const double ms = v.median(), speed = 1000.0 / ms, bytes = static_cast<double>(v.run->bytes());
        std::printf("%-26s %-5s %9.1f %9.1f %7.0f %%  %8.5f %8.5f %8.5f%s\n", v.name().c_str(), v.bits, speed,
                    bytes * 1e-6, 100.0 * speed * bytes / bandwidth, v.last, v.least, v.added,
                    v.different ? "   OTHER FLOATS" : "");
        const bool eight_bits = v.weights != &four;
        good = good && v.different == 0 && (!eight_bits || v.least >= 0.99);
        const std::int64_t size = v.weights ? v.weights->bytes() : real.bytes();
        rows.push_back(
            {"decoder", v.name(), v.bits, "tokens/s", speed, 1000.0 / all.front().median(), size, ms, {}, {}});
        rows.push_back({"decoder", v.name(), v.bits, "cosine", v.last, 1.0, size, ms, {}, {}});
        rows.push_back({"decoder", v.name(), v.bits, "cosine of what is added", v.added, 1.0, size, ms, {}, {}});
    }
    return good;
}

} // namespace
} // namespace decode

int main(int argc, char** argv) {
    std::string out;
    unsigned seed = 1;
    decode::shape s{2048, 16, 16, 128, 5632, 4};
    decode::options o{256, 2, 21, std::size_t{256} << 20};
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
    app.add_flag("--quick", quick, "a tiny decoder with 4 heads on 2");
    CLI11_PARSE(app, argc, argv);
    try {
        if (quick) {
            s = {128, 4, 2, 32, 192, 2};
            o = {24, 24, 5, std::size_t{64} << 20};
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
