// SPDX-License-Identifier: Apache-2.0
//
// Loads what train.cpp saved, in a fresh process compiled at plain -O2 for the baseline, and
//   - runs every quantized network on every instruction set that this CPU has, with one and with
//   two
//     threads, over all test images, comparing every integer code of every layer with the training
//     network's forward pass;
//   - times each against the fp32 path in Eigen compiled for the same instruction set, in turns;
//   - writes results.json and report.html and prints the table.
#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <thread>

#include <notch/io/layer_file.hpp>
#include <notch/scheme/half.hpp>

#include "files.hpp"
#include "fp32.hpp"
#include "idx.hpp"
#include "networks.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace mnist {
namespace {

using json = nlohmann::ordered_json;
using notch::buffer;
using notch::isa;

constexpr index_t image_size = digit_side * digit_side;
constexpr notch::quant_params pixel_params{1.0f / 255.0f, 0};

using digits = dataset;

/// An executor of n threads, started for each call: enough to show that results do not depend on
/// it.
struct thread_team {
    index_t threads;
    [[nodiscard]] index_t concurrency() const { return threads; }
    void run(index_t n, notch::task_ref task) const {
        std::vector<std::thread> team;
        for (index_t t = 1; t < threads; ++t)
            team.emplace_back([=, this] {
                for (index_t i = t; i < n; i += threads) task(i);
            });
        for (index_t i = 0; i < n; i += threads) task(i);
        for (auto& t : team) t.join();
    }
};

/// Images [first, first + n) as codes, or as real values.
void load_batch(const digits& d, index_t first, index_t n, bool real, activation& x) {
    x.reshape(n, 28, 28, 1);
    const std::uint8_t* from = d.pixels.data() + first * image_size;
    x.quantized = !real;
    if (real) {
        x.values.resize_discard(x.size());
        for (index_t i = 0; i < x.size(); ++i) x.values[i] = static_cast<float>(from[i]) * pixel_params.scale;
    } else {
        x.params = pixel_params;
        x.codes.resize_discard(x.size());
        std::copy_n(from, x.size(), x.codes.begin()); // pixels are the codes of scale 1/255
    }
}

index_t count_right(const digits& d, index_t first, const float* logits, index_t n) {
    index_t right = 0;
    for (index_t i = 0; i < n; ++i)
        right += std::max_element(logits + i * 10, logits + i * 10 + 10) - (logits + i * 10) ==
                 d.labels[static_cast<std::size_t>(first + i)];
    return right;
}

// --- the float networks
// -----------------------------------------------------------------------------

/// So many images pass through all layers before the next ones do, where activations are real values: those of a
/// whole batch would not stay in the second cache.
constexpr index_t real_images = 8;

/// A float model, batch norm folded, as steps for the Eigen builds.
class fp32_network {
public:
    fp32_network(const std::string& path, const std::string& name) : file_(notch::model_file::load(path)) {
        constexpr float none = std::numeric_limits<float>::infinity();
        if (name == small_cnn<int8_per_channel>::name) {
            conv("conv", fp32_op::conv, {0, 1}, {28, 28, 1}, {26, 26, 32}, {3, 1, 0}, 0.0f, none);
            plain(fp32_op::max_pool, {1, 2}, 0, {26, 26, 32}, {13, 13, 32});
            conv("dense", fp32_op::conv, {2, 3}, {1, 1, 13 * 13 * 32}, {1, 1, 10}, {1, 1, 0}, -none, none);
        } else {
            conv("stem", fp32_op::conv, {0, 1}, {28, 28, 1}, {14, 14, 32}, {3, 2, 1}, 0.0f, 6.0f);
            conv("dw1", fp32_op::depthwise, {1, 2}, {14, 14, 32}, {14, 14, 32}, {3, 1, 1}, 0.0f, 6.0f);
            conv("pw1", fp32_op::conv, {2, 3}, {14, 14, 32}, {14, 14, 32}, {1, 1, 0}, -none, none);
            plain(fp32_op::add, {1, 4}, 3, {14, 14, 32}, {14, 14, 32});
            conv("dw2", fp32_op::depthwise, {4, 5}, {14, 14, 32}, {7, 7, 32}, {3, 2, 1}, 0.0f, 6.0f);
            conv("pw2", fp32_op::conv, {5, 6}, {7, 7, 32}, {7, 7, 128}, {1, 1, 0}, 0.0f, 6.0f);
            conv("dw3", fp32_op::depthwise, {6, 7}, {7, 7, 128}, {4, 4, 128}, {3, 2, 1}, 0.0f, 6.0f);
            conv("pw3", fp32_op::conv, {7, 8}, {4, 4, 128}, {4, 4, 512}, {1, 1, 0}, 0.0f, 6.0f);
            plain(fp32_op::global_average, {8, 9}, 0, {4, 4, 512}, {1, 1, 512});
            conv("dense", fp32_op::conv, {9, 10}, {1, 1, 512}, {1, 1, 10}, {1, 1, 0}, -none, none);
        }
    }
    void reserve(index_t batch) {
        buffers_.assign(steps_.size() + 1, {});
        pointers_.clear();
        buffers_[0] = buffer<float>(batch * image_size);
        for (const fp32_step& s : steps_)
            buffers_[static_cast<std::size_t>(s.y)] = buffer<float>(batch * s.out_h * s.out_w * s.out_c);
        for (auto& b : buffers_) pointers_.push_back(b.data());
    }
    buffer<float>& input() { return buffers_[0]; }
    const float* run(isa i, index_t batch) {
        auto* run_steps = notch_demo_fp32_baseline;
#if NOTCH_X86_64
        if (i == isa::avx2 || i == isa::avxvnni) run_steps = notch_demo_fp32_avx2;
        if (i == isa::avx512bw || i == isa::avx512vnni || i == isa::amx) run_steps = notch_demo_fp32_avx512;
#else
        (void)i;
#endif
        const fp32_step& last = steps_.back();
        for (index_t first = 0; first < batch; first += real_images) {
            pointers_.front() = buffers_.front().data() + first * image_size;
            pointers_.back() = buffers_.back().data() + first * last.out_h * last.out_w * last.out_c;
            run_steps(steps_.data(), static_cast<int>(steps_.size()), pointers_.data(),
                      static_cast<int>(std::min(real_images, batch - first)), scratch_.data());
        }
        return buffers_.back().data();
    }

private:
    struct size {
        int h, w, c;
    };
    struct link {
        int x, y;
    };
    struct shape {
        int kernel, stride, pad;
    };
    buffer<float> read(const std::string& name) const {
        const notch::dtype type = file_.info(name).type;
        if (type == notch::dtype::f32) return file_.copy<float>(name);
        const auto bytes = file_.bytes(name);
        buffer<float> v(static_cast<index_t>(bytes.size() / 2));
        for (index_t i = 0; i < v.size(); ++i) {
            std::uint16_t bits;
            std::memcpy(&bits, bytes.data() + 2 * i, 2);
            v[i] = type == notch::dtype::f16 ? notch::from_float16(bits) : notch::from_bfloat16(bits);
        }
        return v;
    }
    void conv(const std::string& name, fp32_op op, link l, size in, size out, shape s, float lo, float hi) {
        buffer<float> w = read(name + ".w"), b = read(name + ".b");
        if (file_.contains(name + ".g")) {
            notch::batch_norm norm(out.c);
            norm.gamma = read(name + ".g");
            norm.beta = std::move(b);
            norm.running_mean = read(name + ".m");
            norm.running_var = read(name + ".v");
            buffer<float> folded(w.size()), bias(out.c);
            const index_t per = w.size() / out.c;
            norm.fold(w,
                      op == fp32_op::depthwise ? notch::channel_layout{per, out.c, 1}
                                               : notch::channel_layout{1, out.c, per},
                      {}, folded, bias);
            w = std::move(folded);
            b = std::move(bias);
        }
        arrays_.push_back(std::move(w));
        arrays_.push_back(std::move(b));
        steps_.push_back({op, l.x, l.y, 0, in.h, in.w, in.c, out.h, out.w, out.c, s.kernel, s.stride, s.pad,
                          arrays_[arrays_.size() - 2].data(), arrays_.back().data(), lo, hi});
    }
    void plain(fp32_op op, link l, int other, size in, size out) {
        steps_.push_back({op, l.x, l.y, other, in.h, in.w, in.c, out.h, out.w, out.c, 0, 0, 0, nullptr, nullptr, 0, 0});
    }
    notch::model_file file_;
    std::vector<fp32_step> steps_;
    std::vector<buffer<float>> arrays_, buffers_;
    std::vector<float*> pointers_;
    buffer<float> scratch_{1 << 16};
};

// --- the integer networks
// -----------------------------------------------------------------------------

template <class Net> void load_network(Net& net, const std::string& path) {
    const notch::model_file file = notch::model_file::load(path);
    net.layers([&](const std::string& name, auto& layer) {
        layer = std::remove_reference_t<decltype(layer)>(notch::load_layer(file, name));
    });
    net.observed([&](const std::string& name, auto& layer) {
        if (!file.contains(name + ".s")) return; // dynamic
        layer.fixed_params =
            notch::quant_params{file.copy<float>(name + ".s")[0], file.copy<std::int32_t>(name + ".z")[0]};
    });
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct quartiles {
    double low = 0, median = 0, high = 0;
    [[nodiscard]] double spread() const { return (high - low) / median; }
};
quartiles quartiles_of(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return {v[v.size() / 4], v[v.size() / 2], v[v.size() * 3 / 4]};
}

struct timing {
    double mine = 0, fp32 = 0;
    double spread = 0; ///< of the middle half of the repetitions, relative to the median; the larger of the two
};

/// Median seconds of two calls that take turns, so that both see the same clock and the same noise.
template <class Mine, class Fp32> timing in_turns(int rounds, const Mine& mine, const Fp32& fp32) {
    std::vector<double> a, b;
    for (int r = 0; r < rounds + 5; ++r) {
        const double t0 = seconds();
        mine();
        const double t1 = seconds();
        fp32();
        const double t2 = seconds();
        if (r < 5) continue; // warm up
        a.push_back(t1 - t0);
        b.push_back(t2 - t1);
    }
    const quartiles mine_times = quartiles_of(a), fp32_times = quartiles_of(b);
    return {mine_times.median, fp32_times.median, std::max(mine_times.spread(), fp32_times.spread())};
}

class checker {
public:
    checker(const options& s, bool quick, const digits& d) : s_(s), quick_(quick), test_(d) {}

    /// Fills a row of training.json for a float network.
    void measure_float(json& row, fp32_network& reference) {
        fp32_network net(path(row, ".notch"), row["network"]);
        net.reserve(100);
        index_t right = 0;
        for (index_t first = 0; first < test_.count; first += 100) {
            const index_t n = std::min<index_t>(100, test_.count - first);
            fill(net, first, n);
            right += count_right(test_, first, net.run(notch::default_isa(), n), n);
        }
        row["top1_loaded"] = percent(right);
        row["checked_codes"] = nullptr;
        row["mismatched_codes"] = nullptr;
        row["per_isa"] = json::array();
        for (isa i : timed_isas()) {
            json entry{{"isa", to_string(i)}, {"threads", 1}};
            for (index_t batch : {1, 64}) {
                net.reserve(batch);
                reference.reserve(batch);
                fill(net, 0, batch);
                fill(reference, 0, batch);
                const timing t = in_turns(
                    rounds(batch), [&] { net.run(i, batch); }, [&] { reference.run(i, batch); });
                add_times(entry, batch, t);
            }
            row["per_isa"].push_back(entry);
        }
        choose_best(row);
    }

    /// Fills a row for an integer network: codes on every ISA with 1 and 2 threads, then times.
    template <class Net> void measure_integer(json& row, fp32_network& reference, bool dynamic, progress& bar) {
        Net net;
        load_network(net, path(row, ".notch"));
        measure_integer(
            row, reference, dynamic, bar,
            [&](const activation& x, const context& ctx) -> const activation& { return net.forward(x, ctx); },
            [&](std::vector<std::uint8_t>& codes, const context& ctx) { append_codes(codes, net, ctx); });
    }
    using forward_function = std::function<const activation&(const activation&, const context&)>;
    using codes_function = std::function<void(std::vector<std::uint8_t>&, const context&)>;
    void measure_integer(json& row, fp32_network& reference, bool dynamic, progress& bar,
                         const forward_function& forward, const codes_function& append) {
        const std::vector<std::uint8_t> expected = read_bytes(path(row, ".codes"));
        row["per_isa"] = json::array();
        std::int64_t checked = 0, mismatched = 0;
        for (isa i : notch::available_isas())
            for (index_t threads : {1, 2}) {
                json entry = check_codes(row, i, threads, dynamic, expected, forward, append);
                checked += entry["checked_codes"].get<std::int64_t>();
                mismatched += entry["mismatched_codes"].get<std::int64_t>();
                if (threads == 1 && i != isa::scalar) time_integer(entry, i, reference, dynamic, forward);
                row["per_isa"].push_back(entry);
                bar.step();
            }
        row["checked_codes"] = checked;
        row["mismatched_codes"] = mismatched;
        choose_best(row);
        if (!s_.keep_codes) std::filesystem::remove(path(row, ".codes"));
    }
    json check_codes(json& row, isa i, index_t threads, bool dynamic, const std::vector<std::uint8_t>& expected,
                     const forward_function& forward, const codes_function& append) {
        thread_team team{threads};
        const context ctx(i, team, workspace_);
        activation x;
        std::vector<std::uint8_t> codes;
        index_t right = 0;
        std::size_t at = 0;
        std::int64_t wrong = 0;
        // In a quick run all images on the best instruction set, a part on the others; the scalar kernels are slow.
        const index_t part = i == isa::scalar ? 100 : 500;
        const index_t images = quick_ && i != notch::default_isa() ? std::min<index_t>(part, test_.count) : test_.count;
        for (index_t first = 0; first < images; first += 100) {
            load_batch(test_, first, std::min<index_t>(100, images - first), dynamic, x);
            const activation& logits = forward(x, ctx);
            right += count_right(test_, first, logits.values.data(), logits.n);
            codes.clear();
            append(codes, ctx);
            wrong += different(codes, std::span(expected).subspan(std::min(at, expected.size())));
            at += codes.size();
        }
        if (images == test_.count) {
            wrong += static_cast<std::int64_t>(expected.size() - std::min(at, expected.size()));
            row["top1_loaded"] = percent(right);
        }
        return {{"isa", to_string(i)},
                {"threads", threads},
                {"images", images},
                {"checked_codes", at},
                {"mismatched_codes", wrong}};
    }
    void time_integer(json& entry, isa i, fp32_network& reference, bool dynamic, const forward_function& forward) {
        const context alone(i, {}, workspace_);
        for (index_t batch : {1, 64}) {
            const index_t share = dynamic ? std::min(real_images, batch) : batch;
            std::vector<activation> parts(static_cast<std::size_t>(batch / share));
            for (index_t first = 0; first < batch; first += share)
                load_batch(test_, first, share, dynamic, parts[static_cast<std::size_t>(first / share)]);
            reference.reserve(batch);
            fill(reference, 0, batch);
            const auto all_parts = [&] {
                for (const activation& part : parts) forward(part, alone);
            };
            const timing t = in_turns(rounds(batch), all_parts, [&] { reference.run(i, batch); });
            add_times(entry, batch, t);
        }
    }
    [[nodiscard]] std::string path(const json& row, const std::string& ending) const {
        return s_.out + "/" + row["network"].get<std::string>() + "." + row["method"].get<std::string>() + ending;
    }

private:
    [[nodiscard]] int rounds(index_t batch) const { return batch == 1 ? (quick_ ? 75 : 500) : (quick_ ? 7 : 31); }
    [[nodiscard]] double percent(index_t right) const {
        return 100.0 * static_cast<double>(right) / static_cast<double>(test_.count);
    }
    static std::vector<isa> timed_isas() {
        std::vector<isa> list;
        for (isa i : notch::available_isas())
            if (i != isa::scalar) list.push_back(i);
        if (list.empty()) list.push_back(isa::scalar);
        return list;
    }
    void fill(fp32_network& net, index_t first, index_t n) const {
        for (index_t i = 0; i < n * image_size; ++i)
            net.input()[i] =
                static_cast<float>(test_.pixels[static_cast<std::size_t>(first * image_size + i)]) * pixel_params.scale;
    }
    static void add_times(json& entry, index_t batch, timing t) {
        if (batch == 1) {
            entry["latency_us"] = t.mine * 1e6;
            entry["images_per_s_b1"] = 1.0 / t.mine;
            entry["speedup_b1"] = t.fp32 / t.mine;
            entry["fp32_latency_us"] = t.fp32 * 1e6;
            entry["spread_b1"] = t.spread;
        } else {
            entry["images_per_s_b64"] = static_cast<double>(batch) / t.mine;
            entry["speedup_b64"] = t.fp32 / t.mine;
            entry["spread_b64"] = t.spread;
        }
    }
    /// The row's own figures are those of the best instruction set.
    static void choose_best(json& row) {
        for (const char* key : {"latency_us", "images_per_s_b1", "images_per_s_b64", "speedup_b1", "speedup_b64"})
            row[key] = nullptr;
        row["isa"] = nullptr;
        for (const json& e : row["per_isa"]) {
            if (!e.contains("latency_us")) continue;
            row["isa"] = e["isa"];
            for (const char* key : {"latency_us", "images_per_s_b1", "images_per_s_b64", "speedup_b1", "speedup_b64"})
                row[key] = e[key];
        }
    }
    /// Codes that expected does not begin with.
    static std::int64_t different(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> expected) {
        const std::size_t n = std::min(codes.size(), expected.size());
        auto count = static_cast<std::int64_t>(codes.size() - n);
        if (n > 0 && std::memcmp(codes.data(), expected.data(), n) != 0)
            for (std::size_t i = 0; i < n; ++i) count += codes[i] != expected[i];
        return count;
    }
    static std::vector<std::uint8_t> read_bytes(const std::string& file) {
        std::ifstream f(file, std::ios::binary);
        if (!f) notch::fail(notch::errc::io, "cannot read " + file + " (run mnist_train first)");
        std::vector<std::uint8_t> bytes(static_cast<std::size_t>(std::filesystem::file_size(file)));
        if (!f.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size())))
            notch::fail(notch::errc::io, "cannot read " + file);
        return bytes;
    }
    const options& s_;
    bool quick_;
    const digits& test_;
    buffer<std::byte> workspace_{16 << 20};
};

std::string cpu_name() {
    std::ifstream f("/proc/cpuinfo");
    for (std::string line; std::getline(f, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown CPU";
}

/// What mnist_train wrote.
json read_training(const std::string& path) {
    std::ifstream in(path);
    if (!in) notch::fail(notch::errc::io, "cannot read " + path + " (run mnist_train first)");
    const json results = json::parse(in, nullptr, false);
    const auto has = [](const json& object, const char* key, auto is_type) {
        return object.is_object() && object.contains(key) && (object[key].*is_type)();
    };
    bool good = has(results, "meta", &json::is_object) && has(results["meta"], "quick", &json::is_boolean) &&
                has(results, "layers", &json::is_array) && has(results, "rows", &json::is_array) &&
                !results["rows"].empty();
    if (good)
        for (const json& row : results["rows"]) {
            for (const char* key : {"network", "method", "title", "kind"})
                good = good && has(row, key, &json::is_string);
            for (const char* key : {"bytes", "top1", "delta_top1"}) good = good && has(row, key, &json::is_number);
        }
    if (!good) notch::fail(notch::errc::corrupt, path + ": not what mnist_train writes; run it again");
    return results;
}

int check_and_time(const options& s) {
    json results = read_training(s.out + "/training.json");
    const digits test = read_digits(s.data, "test");
    json isas = json::array();
    for (isa i : notch::available_isas()) isas.push_back(to_string(i));
    for (int i = 0; i < notch::isa_count; ++i) {
        const auto set = static_cast<isa>(i);
        const char* missing =
            set == isa::amx ? ": not in this CPU, or not asked for by NOTCH_ISA=amx" : ": not in this CPU";
        if (is_available(set))
            std::printf("checking on %s\n", to_string(set));
        else
            std::printf("not run here: %s%s\n", to_string(set), missing);
    }
    std::fflush(stdout); // before the bar, wherever the two streams go
    results["meta"]["cpu"] = cpu_name();
    results["meta"]["isas"] = isas;

    checker check(s, results["meta"]["quick"].get<bool>(), test);
    long integer_rows = 0;
    for (const json& row : results["rows"]) integer_rows += row["kind"] != "float";
    progress bar("check every code, time", integer_rows * static_cast<long>(isas.size()) * 2);
    std::int64_t bad = 0, other_top1 = 0;
    for (json& row : results["rows"]) {
        const bool small = row["network"] == small_cnn<int8_per_channel>::name;
        fp32_network reference(s.out + "/" + row["network"].get<std::string>() + ".fp32.notch", row["network"]);
        if (row["kind"] == "float")
            check.measure_float(row, reference);
        else if (row["kind"] == "dynamic" && small)
            check.measure_integer<frozen_small_cnn<notch::dynamic_layer>>(row, reference, true, bar);
        else if (row["kind"] == "dynamic")
            check.measure_integer<frozen_mobile_net<notch::dynamic_layer>>(row, reference, true, bar);
        else if (small)
            check.measure_integer<frozen_small_cnn<notch::frozen_layer>>(row, reference, false, bar);
        else
            check.measure_integer<frozen_mobile_net<notch::frozen_layer>>(row, reference, false, bar);
        if (row["mismatched_codes"].is_number()) bad += row["mismatched_codes"].get<std::int64_t>();
        if (row["kind"] != "float" && row["top1_loaded"] != row["top1"]) ++other_top1;
        double fp32_bytes = 0;
        for (const json& other : results["rows"])
            if (other["network"] == row["network"] && other["method"] == "fp32") fp32_bytes = other["bytes"];
        row["size_ratio"] = row["bytes"].get<double>() / fp32_bytes;
    }
    bar.finish();
    write_file(s.out + "/results.json", results.dump(1) + "\n");
    write_report(results, s.out + "/report.html");
    std::printf("%s\nwrote %s/results.json and %s/report.html\n", text_table(results).c_str(), s.out.c_str(),
                s.out.c_str());
    if (bad)
        std::fprintf(stderr, "mnist_run: %lld codes differ from the training network\n", static_cast<long long>(bad));
    if (other_top1)
        std::fprintf(stderr, "mnist_run: the accuracy of %lld networks is not that of training\n",
                     static_cast<long long>(other_top1));
    return bad || other_top1 ? 1 : 0;
}

} // namespace
} // namespace mnist

int main(int argc, char** argv) { return mnist::run_program("mnist_run", argc, argv, mnist::check_and_time); }
