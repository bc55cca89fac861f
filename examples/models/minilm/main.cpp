// SPDX-License-Identifier: Apache-2.0
//
// Sentence embeddings by all-MiniLM-L6-v2 in fp32 and quantized after training: how close they are, how retrieval
// orders sentences, how long they take. Fails if our fp32 is not that of the reference, a variant gives another
// embedding on another instruction set, or 8 bits are further from fp32 than a mean cosine of 0.99.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>
#include <numeric>

#include "../results.hpp"
#include "../timing.hpp"
#include "network.hpp"

namespace minilm {
namespace {

/// Sentences as ids, one after the other, and what the reference makes of them.
struct sentences {
    buffer<std::int32_t> ids;
    std::vector<index_t> begin{0};
    buffer<float> reference; ///< empty: none

    sentences(const notch::safetensors& file, const std::string& name, index_t most)
        : ids(file.copy<std::int32_t>(name + ".ids")) {
        for (std::int32_t n : file.copy<std::int32_t>(name + ".lengths")) {
            if (n < 1 || n > ids.size() - begin.back())
                notch::fail(notch::errc::corrupt, "the lengths of " + name + " do not fit its ids");
            begin.push_back(begin.back() + n);
            if (size() == most) break;
        }
        if (file.contains(name + ".reference")) {
            reference = file.copy<float>(name + ".reference");
            if (reference.size() < size() * width)
                notch::fail(notch::errc::corrupt, "the reference of " + name + " is too short");
        }
    }
    [[nodiscard]] index_t size() const { return static_cast<index_t>(begin.size()) - 1; }
    [[nodiscard]] std::span<const std::int32_t> operator[](index_t i) const {
        const auto at = static_cast<std::size_t>(i);
        return std::span<const std::int32_t>(ids.span())
            .subspan(static_cast<std::size_t>(begin[at]), static_cast<std::size_t>(begin[at + 1] - begin[at]));
    }
};

/// A network: ids to an embedding.
using embedder = std::function<void(std::span<const std::int32_t>, float*, const context&)>;

buffer<float> embed(const embedder& net, const sentences& s) {
    const context ctx;
    buffer<float> y(s.size() * width);
    for (index_t i = 0; i < s.size(); ++i) net(s[i], y.data() + i * width, ctx);
    return y;
}

double dot(const float* a, const float* b) {
    double sum = 0;
    for (index_t c = 0; c < width; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
    return sum;
}
struct closeness {
    double mean = 0, least = 1;
};
closeness compare(const buffer<float>& a, const float* b) {
    closeness c;
    const index_t n = a.size() / width;
    for (index_t i = 0; i < n; ++i) {
        const double v = dot(a.data() + i * width, b + i * width);
        c.mean += v / static_cast<double>(n);
        c.least = std::min(c.least, v);
    }
    return c;
}

/// The ten sentences next to each query, which is every n / 200th sentence.
std::vector<std::vector<index_t>> neighbours(const buffer<float>& y) {
    const index_t n = y.size() / width, queries = std::min<index_t>(n, 200), k = std::min<index_t>(10, n - 1);
    std::vector<std::vector<index_t>> all;
    for (index_t q = 0; q < queries; ++q) {
        const index_t at = q * n / queries;
        std::vector<double> score(static_cast<std::size_t>(n));
        for (index_t i = 0; i < n; ++i)
            score[static_cast<std::size_t>(i)] = i == at ? -2.0 : dot(y.data() + i * width, y.data() + at * width);
        std::vector<index_t> order(static_cast<std::size_t>(n));
        std::iota(order.begin(), order.end(), index_t{0});
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](index_t a, index_t b) {
            const double x = score[static_cast<std::size_t>(a)], z = score[static_cast<std::size_t>(b)];
            return x > z || (x == z && a < b);
        });
        order.resize(static_cast<std::size_t>(k));
        all.push_back(std::move(order));
    }
    return all;
}
/// Per cent of the neighbours that are among those of b too, and of queries whose first is the same.
std::pair<double, double> agreement(const std::vector<std::vector<index_t>>& a,
                                    const std::vector<std::vector<index_t>>& b) {
    double shared = 0, all = 0, first = 0;
    for (std::size_t q = 0; q < a.size(); ++q) {
        for (index_t i : a[q]) shared += static_cast<double>(std::count(b[q].begin(), b[q].end(), i));
        all += static_cast<double>(a[q].size());
        first += a[q][0] == b[q][0];
    }
    return {100 * shared / all, 100 * first / static_cast<double>(a.size())};
}

double median_ms(const embedder& net, std::span<const std::int32_t> ids, int threads) {
    float y[width];
    return models::median_ms(0.2, threads, [&](const context& ctx) { net(ids, y, ctx); });
}

statistics calibrate(float_network& fp32, const sentences& s, std::vector<smoothing> smooth, bool moments) {
    statistics seen(std::move(smooth), moments);
    float y[width];
    for (index_t i = 0; i < s.size(); ++i)
        fp32.run(s[i], y, context(), [&](index_t l, place p, std::span<const float> x) { seen.observe(l, p, x); });
    return seen;
}

/// Signal to noise in dB of what goes around the blocks, by layer: x, sum1, norm1, sum2.
template <class Residual>
std::vector<double> noise(float_network& fp32, integer_network<Residual>& net, const sentences& s, index_t most) {
    constexpr place places[] = {place::x, place::sum1, place::norm1, place::sum2};
    std::vector<double> signal(4 * layers + 1), error(4 * layers + 1);
    std::vector<std::vector<float>> real(4 * layers + 1);
    const auto at = [&](index_t l, place p) -> std::size_t {
        return static_cast<std::size_t>(4 * l + (std::find(std::begin(places), std::end(places), p) - places));
    };
    float y[width];
    for (index_t i = 0; i < std::min(most, s.size()); ++i) {
        fp32.run(s[i], y, context(), [&](index_t l, place p, std::span<const float> x) {
            if (std::find(std::begin(places), std::end(places), p) != std::end(places))
                real[at(l, p)].assign(x.begin(), x.end());
        });
        net.run(s[i], y, context(), [&](index_t l, place p, std::span<const Residual> codes, quant_params q) {
            const std::vector<float>& x = real[at(l, p)];
            for (std::size_t k = 0; k < codes.size(); ++k) {
                const double v = static_cast<double>(x[k]),
                             d = v - static_cast<double>(q.scale) * static_cast<double>(codes[k] - q.zero_point);
                signal[at(l, p)] += v * v;
                error[at(l, p)] += d * d;
            }
        });
    }
    for (std::size_t k = 0; k < signal.size(); ++k) signal[k] = 10 * std::log10(signal[k] / error[k]);
    return signal;
}

struct variant {
    std::string method, bits;
    embedder net;
    std::int64_t bytes;
    bool eight_bits; ///< must reach a mean cosine of 0.99
};

} // namespace
} // namespace minilm

int main(int argc, char** argv) {
    using namespace minilm;
    std::string weights_path, sentences_path, out;
    bool quick = false, timing = false;
    int threads = 1;
    CLI::App app("Sentence embeddings by all-MiniLM-L6-v2 in fp32 and INT8");
    app.add_option("--weights", weights_path, "model.safetensors")->required();
    app.add_option("--sentences", sentences_path, "what scripts/minilm.py prepare made")->required();
    app.add_option("--out", out, "file of the results");
    app.add_flag("--quick", quick, "fewer sentences");
    app.add_flag("--time", timing, "only the latency at 128 tokens: name, tab, ms");
    app.add_option("--threads", threads, "of --time")->check(CLI::Range(1, 256))->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        const auto file = notch::safetensors::load(sentences_path);
        const index_t all = 1 << 20;
        const sentences calibration(file, "calibration", quick ? 32 : all);
        const sentences test(file, "sentences", quick ? 100 : all), passages(file, "passages", quick ? 10 : all);
        if (calibration.size() == 0 || test.size() < 2 || passages.size() == 0 || test.reference.empty() ||
            passages.reference.empty())
            notch::fail(notch::errc::invalid_argument, sentences_path + ": sentences or references are missing");
        const weights w(weights_path);
        float_network fp32(w, product_kind::fp32);
        const bool gptq = !timing; // takes no part in the latency
        const statistics seen = calibrate(fp32, calibration, {}, gptq);
        const std::vector<smoothing> smooth = seen.smooth(w, 0.5);
        const statistics smooth_seen = calibrate(fp32, calibration, smooth, gptq);

        std::vector<variant> variants;
        const auto add_float = [&](const char* method, const char* bits, product_kind kind, bool eight,
                                   std::span<const notch::input_moments> moments = {}) {
            const auto net = std::make_shared<float_network>(w, kind, moments);
            variants.push_back({method, bits, [net](auto ids, float* y, const context& ctx) { net->run(ids, y, ctx); },
                                net->bytes(), eight});
        };
        const auto add_integer = [&]<class Residual>(Residual, const char* method, const char* bits,
                                                     const statistics& from, const integer_options& o, bool eight) {
            const auto net = std::make_shared<integer_network<Residual>>(w, from, o);
            variants.push_back({method, bits, [net](auto ids, float* y, const context& ctx) { net->run(ids, y, ctx); },
                                net->bytes(), eight});
            return net;
        };
        using notch::clip;
        const std::int16_t s16{};
        const std::uint8_t u8{};
        add_float("fp32", "fp32", product_kind::fp32, true);
        const auto wide = add_integer(s16, "static", "w8a8", seen, {8, clip::min_max(), {}, false}, true);
        add_integer(s16, "static, percentile", "w8a8", seen, {8, clip::percentile(99.99), {}, false}, true);
        add_integer(s16, "static, least error", "w8a8", seen, {8, clip::error(), {}, false}, true);
        add_integer(s16, "static, SmoothQuant", "w8a8", smooth_seen, {8, clip::error(), smooth, false}, true);
        const auto narrow =
            add_integer(u8, "static, 8-bit residual", "w8a8", seen, {8, clip::min_max(), {}, false}, false);
        add_integer(s16, "static, SmoothQuant", "w4a8", smooth_seen, {4, clip::error(), smooth, false}, false);
        add_integer(s16, "static, SmoothQuant, GPTQ", "w4a8", smooth_seen, {4, clip::error(), smooth, gptq}, false);
        add_float("dynamic, per token", "w8a8", product_kind::dynamic, true);
        add_float("dynamic, group-wise", "w4a8", product_kind::group4_a8, false);
        add_float("dynamic, group-wise, GPTQ", "w4a8", product_kind::group4_a8, false, seen.moments());
        add_float("weight-only, group-wise", "w8a32", product_kind::group8, true);
        add_float("weight-only, group-wise", "w4a32", product_kind::group4, false);
        add_float("weight-only, group-wise, GPTQ", "w4a32", product_kind::group4, false, seen.moments());

        if (timing) {
            for (const variant& v : variants)
                models::print_time((v.method + " " + v.bits).c_str(), median_ms(v.net, passages[0], threads));
            return 0;
        }
        bool failed = false;
        const auto complain = [&](const std::string& text) {
            std::fprintf(stderr, "models_minilm: %s\n", text.c_str());
            failed = true;
        };
        std::printf("%lld sentences, %lld passages of %lld tokens\n", static_cast<long long>(test.size()),
                    static_cast<long long>(passages.size()), static_cast<long long>(passages[0].size()));
        std::vector<models::result> rows;
        buffer<float> real, real_passages;
        std::vector<std::vector<index_t>> order;
        std::printf("%-30s %-6s %-19s %-19s %7s %7s %9s %9s\n", "", "", "cosine: mean, least", "of passages", "top-10",
                    "first", "bytes", "ms");
        for (const variant& v : variants) {
            const buffer<float> y = embed(v.net, test), z = embed(v.net, passages);
            if (real.empty()) { // the first is fp32
                const closeness a = compare(y, test.reference.data()), b = compare(z, passages.reference.data());
                std::printf("fp32 against the reference: least cosine %.7f, of passages %.7f\n", a.least, b.least);
                if (!(std::min(a.least, b.least) > 0.9999)) complain("fp32 is not what the reference computes");
                real = y;
                real_passages = z;
                order = neighbours(y);
            }
            const closeness a = compare(y, real.data()), b = compare(z, real_passages.data());
            const auto [top10, first] = agreement(order, neighbours(y));
            const double ms = median_ms(v.net, passages[0], 1);
            std::printf("%-30s %-6s %.5f   %.5f   %.5f   %.5f  %5.1f %% %5.1f %% %9lld %9.3f\n", v.method.c_str(),
                        v.bits.c_str(), a.mean, a.least, b.mean, b.least, top10, first, static_cast<long long>(v.bytes),
                        ms);
            if (v.eight_bits && !(std::min(a.mean, b.mean) >= 0.99))
                complain(v.method + " " + v.bits + " is too far from fp32");
            const auto row = [&](const char* metric, double value, double best) {
                rows.push_back({"minilm", v.method, v.bits, metric, value, best, v.bytes, ms, {}, {}});
            };
            row("cosine", a.mean, 1);
            row("least cosine", a.least, 1);
            row("cosine, passages", b.mean, 1);
            row("least cosine, passages", b.least, 1);
            row("top-10 %", top10, 100);
            row("first %", first, 100);

            const index_t some = std::min<index_t>(quick ? 2 : 5, test.size());
            for (notch::isa i : notch::available_isas()) {
                float other[width];
                for (index_t k = 0; k < some; ++k) {
                    v.net(test[k], other, context(i));
                    if (std::memcmp(other, y.data() + k * width, sizeof(other)) != 0)
                        complain(v.method + " " + v.bits + " gives another embedding on " + notch::to_string(i));
                }
            }
        }
        std::printf("\nsignal to noise of the residual stream, dB (16-bit codes, 8-bit codes)\n");
        const auto a = noise(fp32, *wide, test, 50), b = noise(fp32, *narrow, test, 50);
        for (index_t l = 0; l <= layers; ++l) {
            std::printf("layer %lld", static_cast<long long>(l));
            const char* names[] = {"x", "sum1", "norm1", "sum2"};
            for (index_t k = 4 * l; k < std::min<index_t>(4 * l + 4, 4 * layers + 1); ++k)
                std::printf("   %-5s %4.1f %4.1f", names[k % 4], a[static_cast<std::size_t>(k)],
                            b[static_cast<std::size_t>(k)]);
            std::printf("\n");
        }
        if (!out.empty()) models::write_results(out, rows);
        return failed ? 1 : 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_minilm: %s\n", e.what());
    }
    return 1;
}
