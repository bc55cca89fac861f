// SPDX-License-Identifier: Apache-2.0
//
// XNNPACK: s8 activations (128 below u8), s8 weights with a scale for each channel. A matrix product
// is a 1x1 convolution, since that takes scales for each channel. It has no vpdpbusd here.
#include <cpuinfo.h>
#include <pthreadpool.h>
#include <xnnpack.h>

#include <limits>

#include "simple.hpp"

namespace {

using bench::operation;

struct geometry {
    std::uint32_t pad, kernel, stride, groups, flags;
    std::size_t in, out, channels, outputs, h, w;
    explicit geometry(const bench::problem& p) {
        const bool gemm = p.op == operation::gemm, depthwise = p.op == operation::depthwise;
        pad = gemm ? 0 : static_cast<std::uint32_t>(p.pad);
        kernel = gemm ? 1 : static_cast<std::uint32_t>(p.kernel);
        stride = gemm ? 1 : static_cast<std::uint32_t>(p.stride);
        channels = static_cast<std::size_t>(gemm ? p.k : p.channels);
        outputs = static_cast<std::size_t>(p.outputs());
        groups = depthwise ? static_cast<std::uint32_t>(channels) : 1;
        in = depthwise ? 1 : channels;
        out = depthwise ? 1 : outputs;
        flags = depthwise ? XNN_FLAG_DEPTHWISE_CONVOLUTION : 0;
        h = static_cast<std::size_t>(gemm ? p.m : p.h);
        w = static_cast<std::size_t>(gemm ? 1 : p.w);
    }
};

pthreadpool_t pool_of(int threads) {
    static const pthreadpool_t two = pthreadpool_create(2);
    return threads == 1 ? nullptr : threads == 2 ? two : pthreadpool_create(static_cast<std::size_t>(threads));
}

std::unique_ptr<bench::work> ready(std::unique_ptr<bench::simple_work> o, xnn_operator_t op, pthreadpool_t pool) {
    const std::shared_ptr<xnn_operator> held(op, [](xnn_operator_t p) { xnn_delete_operator(p); });
    o->body = [held, pool, body = o->body] { xnn_run_operator(held.get(), pool); };
    return o;
}

std::unique_ptr<bench::work> prepare_int8(const bench::workload& w) {
    const auto& p = w.p;
    auto o = std::make_unique<bench::simple_work>();
    xnn_operator_t op = nullptr;
    const pthreadpool_t pool = pool_of(p.threads);
    if (p.op == operation::quantize) {
        o->codes.resize(static_cast<std::size_t>(p.size));
        if (xnn_create_convert_nc_f32_qu8(1, 1, 1, w.x_scale, static_cast<std::uint8_t>(p.x_zero_point), 0, 255, 0,
                                          &op) ||
            xnn_setup_convert_nc_f32_qu8(op, o->codes.size(), w.real.data(), o->codes.data(), pool))
            return nullptr;
        return ready(std::move(o), op, pool);
    }
    if (p.op == operation::dequantize) {
        o->values.resize(static_cast<std::size_t>(p.size));
        if (xnn_create_convert_nc_qu8_f32(1, 1, 1, w.x_scale, static_cast<std::uint8_t>(p.x_zero_point), 0, &op) ||
            xnn_setup_convert_nc_qu8_f32(op, o->values.size(), w.x.data(), o->values.data(), pool))
            return nullptr;
        return ready(std::move(o), op, pool);
    }
    if (!p.has_weights()) return nullptr;
    const geometry g(p);
    o->codes.resize(bench::result_count(p));
    o->signed_codes = true;
    auto x = std::make_shared<std::vector<std::int8_t>>();
    for (std::uint8_t v : w.x) x->push_back(static_cast<std::int8_t>(v - 128));
    x->resize(x->size() + XNN_EXTRA_BYTES);
    if (xnn_create_convolution2d_nhwc_qc8(
            g.pad, g.pad, g.pad, g.pad, g.kernel, g.kernel, g.stride, g.stride, 1, 1, g.groups, g.in, g.out, g.channels,
            g.outputs, static_cast<std::int8_t>(p.x_zero_point - 128), w.x_scale, w.w_scales.data(), w.w.data(),
            w.bias.data(), static_cast<std::int8_t>(p.y_zero_point - 128), w.y_scale, -128, 127, g.flags, &op) ||
        xnn_setup_convolution2d_nhwc_qc8(op, 1, g.h, g.w, x->data(), reinterpret_cast<std::int8_t*>(o->codes.data()),
                                         pool))
        return nullptr;
    o->body = [x] {}; // keeps the inputs
    return ready(std::move(o), op, pool);
}

std::unique_ptr<bench::work> prepare_float(const bench::workload& w) {
    if (!w.p.has_weights()) return nullptr;
    const geometry g(w.p);
    auto o = std::make_unique<bench::simple_work>();
    auto f = std::make_shared<bench::float_inputs>(w);
    f->x.resize(f->x.size() + XNN_EXTRA_BYTES);
    o->values.resize(bench::result_count(w.p));
    xnn_operator_t op = nullptr;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const pthreadpool_t pool = pool_of(w.p.threads);
    if (xnn_create_convolution2d_nhwc_f32(g.pad, g.pad, g.pad, g.pad, g.kernel, g.kernel, g.stride, g.stride, 1, 1,
                                          g.groups, g.in, g.out, g.channels, g.outputs, f->w.data(), f->bias.data(),
                                          -infinity, infinity, g.flags, &op) ||
        xnn_setup_convolution2d_nhwc_f32(op, 1, g.h, g.w, f->x.data(), o->values.data(), pool))
        return nullptr;
    o->body = [f] {};
    return ready(std::move(o), op, pool);
}

} // namespace

void bench::notch_bench_offer(std::string_view tier, offer& o) {
    cpuinfo_initialize();
    // XNNPACK asks libcpuinfo once, in xnn_initialize; it has no setting to hold it back.
    if (tier.substr(0, 6) != "avx512" && tier.substr(0, 3) != "amx") {
        cpuinfo_isa.avx512f = cpuinfo_isa.avx512bw = cpuinfo_isa.avx512vl = cpuinfo_isa.avx512dq = false;
        cpuinfo_isa.avx512cd = cpuinfo_isa.avx512vbmi = cpuinfo_isa.avx512vnni = false;
    }
    if (xnn_initialize(nullptr) != xnn_status_success) {
        o.refusal = "xnn_initialize failed";
        return;
    }
    o.version = "of the system";
    o.peers.push_back({"xnnpack", "s8s8s8", prepare_int8});
    o.peers.push_back({"xnnpack-f32", "f32", prepare_float});
}
