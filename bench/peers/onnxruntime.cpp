// SPDX-License-Identifier: Apache-2.0
//
// ONNX Runtime through its C interface. The wheel brings the library without headers; what is needed
// of them is below. OrtApi is a table of functions that only ever grows at its end (that is its ABI
// promise), so places in it are stable. Models are made here, one node each, with all but x constant,
// so that the library packs weights when the session is made.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "onnx_model.hpp"
#include "simple.hpp"

namespace {

using bench::operation;
using bench::onnx::constant;
using bench::onnx::dims;
using bench::onnx::message;
using bench::onnx::model;
using bench::onnx::type;
using status = void*; // null if all is well

struct ort {
    /// Places in OrtApi.
    enum place {
        get_error_message = 2,
        create_env = 3,
        create_session_from_array = 8,
        run = 9,
        create_session_options = 10,
        set_log_severity = 22,
        set_optimization = 23,
        set_intra_op_threads = 24,
        create_tensor_with_data = 49,
        create_cpu_memory_info = 69,
        release_session = 95,
        release_value = 96,
        release_session_options = 100
    };
    struct base {
        void* const* (*get_api)(std::uint32_t version);
        const char* (*get_version)();
    };
    const base* entry = nullptr;
    void* const* table = nullptr;
    void *env = nullptr, *memory = nullptr;

    template <class... A> status call(place at, A... a) const {
        return reinterpret_cast<status (*)(A...)>(table[at])(a...);
    }
    void release(place at, void* what) const {
        if (what) reinterpret_cast<void (*)(void*)>(table[at])(what);
    }
    template <class... A> void check(place at, A... a) const {
        if (status s = call(at, a...))
            throw std::runtime_error(reinterpret_cast<const char* (*)(status)>(table[get_error_message])(s));
    }
};
ort api;

class ort_work final : public bench::work {
public:
    ort_work(const model& m, const void* x, std::size_t x_bytes, std::size_t y_count, int threads) {
        const std::string text = m.text();
        void* options = nullptr;
        api.check(ort::create_session_options, &options);
        api.check(ort::set_log_severity, options, 3);
        api.check(ort::set_optimization, options, 99);
        api.check(ort::set_intra_op_threads, options, threads);
        api.check(ort::create_session_from_array, api.env, static_cast<const void*>(text.data()), text.size(), options,
                  &session_);
        api.release(ort::release_session_options, options);
        const bool floats = m.y_type == type::f32;
        if (floats)
            out_.values.resize(y_count);
        else
            out_.codes.resize(y_count);
        void* y = floats ? static_cast<void*>(out_.values.data()) : out_.codes.data();
        const std::size_t y_bytes = floats ? y_count * sizeof(float) : y_count;
        tensor(const_cast<void*>(x), x_bytes, m.x_shape, m.x_type, &x_);
        tensor(y, y_bytes, m.y_shape, m.y_type, &y_);
        detail = m.op;
    }
    ~ort_work() override { // threads of a session would go on to spin beside the next problem
        api.release(ort::release_session, session_);
        api.release(ort::release_value, x_);
        api.release(ort::release_value, y_);
    }
    void run() override {
        static const char *const x_name = "x", *const y_name = "y";
        const void* none = nullptr;
        if (api.call(ort::run, session_, none, &x_name, const_cast<const void* const*>(&x_), std::size_t{1}, &y_name,
                     std::size_t{1}, &y_))
            failed_ = true;
    }
    bench::output result() const override { return failed_ ? bench::output{} : out_; }

private:
    static void tensor(void* data, std::size_t bytes, const dims& shape, type t, void** out) {
        api.check(ort::create_tensor_with_data, static_cast<const void*>(api.memory), data, bytes, shape.data(),
                  shape.size(), static_cast<int>(t), out);
    }
    bench::output out_;
    void *session_ = nullptr, *x_ = nullptr, *y_ = nullptr;
    bool failed_ = false;
};

void add_scalars(model& m, const bench::workload& w) {
    m.constants.push_back(constant<float>("x_scale", type::f32, {}, {w.x_scale}));
    m.constants.push_back(
        constant<std::uint8_t>("x_zero_point", type::u8, {}, {static_cast<std::uint8_t>(w.p.x_zero_point)}));
}

void add_weights(model& m, const bench::workload& w, const dims& shape, const std::vector<std::int8_t>& weights) {
    const dims channels{w.p.outputs()};
    add_scalars(m, w);
    m.constants.push_back(constant<float>("y_scale", type::f32, {}, {w.y_scale}));
    m.constants.push_back(
        constant<std::uint8_t>("y_zero_point", type::u8, {}, {static_cast<std::uint8_t>(w.p.y_zero_point)}));
    m.constants.push_back(constant("w", type::s8, shape, weights));
    m.constants.push_back(constant("w_scale", type::f32, channels, w.w_scales));
    m.constants.push_back(constant("w_zero_point", type::s8, channels, std::vector<std::int8_t>(w.w_scales.size())));
    m.constants.push_back(constant("bias", type::s32, channels, w.bias));
    m.x_type = m.y_type = type::u8;
    m.domain = "com.microsoft";
}

/// [rows][columns] to [columns][rows].
std::vector<std::int8_t> transposed(const std::vector<std::int8_t>& v, std::size_t rows, std::size_t columns) {
    std::vector<std::int8_t> t(v.size());
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) t[c * rows + r] = v[r * columns + c];
    return t;
}

std::unique_ptr<bench::work> prepare_or_throw(const bench::workload& w) {
    const auto& p = w.p;
    const auto size = [](long v) { return static_cast<std::size_t>(v); };
    model m;
    if (p.op == operation::quantize || p.op == operation::dequantize) {
        const bool to_codes = p.op == operation::quantize;
        m.op = to_codes ? "QuantizeLinear" : "DequantizeLinear";
        m.inputs = {"x", "x_scale", "x_zero_point"};
        add_scalars(m, w);
        m.x_type = to_codes ? type::f32 : type::u8;
        m.y_type = to_codes ? type::u8 : type::f32;
        m.x_shape = m.y_shape = {p.size};
        const void* x = to_codes ? static_cast<const void*>(w.real.data()) : w.x.data();
        return std::make_unique<ort_work>(m, x, size(p.size) * (to_codes ? 4 : 1), size(p.size), p.threads);
    }
    if (!p.has_weights()) return nullptr;
    if (p.op == operation::gemm) {
        m.op = "QGemm";
        m.inputs = {"x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "bias", "y_scale", "y_zero_point"};
        add_weights(m, w, {p.k, p.n}, transposed(w.w, size(p.n), size(p.k)));
        m.x_shape = {p.m, p.k};
        m.y_shape = {p.m, p.n};
    } else {
        const bool depthwise = p.op == operation::depthwise;
        m.op = "QLinearConv";
        m.inputs = {"x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias"};
        std::vector<std::int8_t> weights; // out, in, kernel, kernel
        const std::size_t taps = size(p.kernel * p.kernel), channels = size(p.channels);
        if (depthwise) {
            weights = transposed(w.w, taps, channels);
        } else {
            for (std::size_t o = 0; o < size(p.out); ++o) {
                const std::vector<std::int8_t> one(w.w.begin() + static_cast<std::ptrdiff_t>(o * taps * channels),
                                                   w.w.begin() +
                                                       static_cast<std::ptrdiff_t>((o + 1) * taps * channels));
                const auto t = transposed(one, taps, channels);
                weights.insert(weights.end(), t.begin(), t.end());
            }
        }
        add_weights(m, w, {p.outputs(), depthwise ? 1 : p.channels, p.kernel, p.kernel}, weights);
        m.attributes = {bench::onnx::attribute("channels_last", 1),
                        bench::onnx::attribute("group", depthwise ? p.channels : 1),
                        bench::onnx::attribute("kernel_shape", dims{p.kernel, p.kernel}),
                        bench::onnx::attribute("pads", dims{p.pad, p.pad, p.pad, p.pad}),
                        bench::onnx::attribute("strides", dims{p.stride, p.stride})};
        m.x_shape = {1, p.h, p.w, p.channels};
        m.y_shape = {1, p.out_h(), p.out_w(), p.outputs()};
    }
    return std::make_unique<ort_work>(m, w.x.data(), w.x.size(), bench::result_count(p), p.threads);
}

std::unique_ptr<bench::work> prepare(const bench::workload& w) {
    try {
        return prepare_or_throw(w);
    } catch (const std::runtime_error& e) {
        std::fprintf(stderr, "onnxruntime: %s\n", e.what());
        return nullptr;
    }
}

/// Seconds that a call of a graph takes that does nothing: the best of many.
double overhead() {
    model m;
    m.op = "Identity";
    m.inputs = {"x"};
    m.x_type = m.y_type = type::f32;
    m.x_shape = m.y_shape = {1};
    const float x = 1;
    ort_work empty(m, &x, sizeof x, 1, 1);
    double best = 1;
    for (int i = 0; i < 50; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        for (int j = 0; j < 100; ++j) empty.run();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / 100);
    }
    return best;
}

} // namespace

void bench::notch_bench_offer(std::string_view, offer& o) {
    if (o.capped) {
        o.refusal = "it cannot be held to an instruction set below the best of the CPU";
        return;
    }
    void* library = dlopen(NOTCH_BENCH_ONNXRUNTIME, RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(dlerror());
    const auto base = reinterpret_cast<const ort::base* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (!base) throw std::runtime_error("it has no OrtGetApiBase");
    api.entry = base();
    api.table = api.entry->get_api(13); // of 2022; later ones serve it too
    if (!api.table) throw std::runtime_error("it does not serve version 13 of its interface");
    const int warnings_off = 3, arena = 1, default_memory = 0;
    api.check(ort::create_env, warnings_off, "notch", &api.env);
    api.check(ort::create_cpu_memory_info, arena, default_memory, &api.memory);
    o.version = api.entry->get_version();
    char text[96];
    std::snprintf(text, sizeof text, "onnxruntime: a call that does nothing takes %.2f us, counted in its times",
                  overhead() * 1e6);
    o.notes.emplace_back(text);
    o.peers.push_back({"onnxruntime", "u8s8u8", prepare});
}
