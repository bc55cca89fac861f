// SPDX-License-Identifier: Apache-2.0
#include "problems.hpp"

#include <stdexcept>
#include <string>

namespace bench {
namespace {

struct entry {
    operation op;
    const char* group;
    const char* shape;
    bool quick;
};

constexpr entry entries[] = {
    {operation::gemm, "gemm", "64x64x64", true},
    {operation::gemm, "gemm", "256x256x256", true},
    {operation::gemm, "gemm", "1024x1024x1024", true},
    {operation::gemm, "gemm", "128x768x768", true},
    {operation::gemm, "gemm", "128x3072x768", false},
    {operation::gemm, "gemm", "128x768x3072", false},
    {operation::gemm, "gemm", "256x256x256_zp", false},
    {operation::gemm, "gemm", "128x768x768_zp", false},

    {operation::gemm, "gemm, weights of 7 bits", "64x64x64_w7", false},
    {operation::gemm, "gemm, weights of 7 bits", "256x256x256_w7", false},
    {operation::gemm, "gemm, weights of 7 bits", "1024x1024x1024_w7", true},
    {operation::gemm, "gemm, weights of 7 bits", "128x768x768_w7", false},

    {operation::gemm, "gemv", "1x768x768", true},
    {operation::gemm, "gemv", "1x4096x4096", true},
    {operation::gemm, "gemv", "4x768x768", false},

    {operation::gemm, "pointwise", "12544x16x32", true},
    {operation::gemm, "pointwise", "12544x96x16", false},
    {operation::gemm, "pointwise", "3136x144x24", false},
    {operation::gemm, "pointwise", "784x192x32", true},
    {operation::gemm, "pointwise", "196x384x64", false},
    {operation::gemm, "pointwise", "49x1280x320", false},

    {operation::conv2d, "3x3 convolutions of ResNet-50", "56x56x64_k3s1p1_to64", true},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "56x56x128_k3s2p1_to128", false},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "28x28x128_k3s1p1_to128", false},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "28x28x256_k3s2p1_to256", false},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "14x14x256_k3s1p1_to256", true},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "14x14x512_k3s2p1_to512", false},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "7x7x512_k3s1p1_to512", true},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "56x56x64_k3s1p1_to64_zp", false},
    {operation::conv2d, "3x3 convolutions of ResNet-50", "14x14x256_k3s1p1_to256_zp", false},

    {operation::conv2d, "first layers", "224x224x3_k7s2p3_to64", true},
    {operation::conv2d, "first layers", "224x224x3_k3s2p1_to32", true},
    {operation::conv2d, "first layers", "224x224x3_k3s2p1_to32_zp", false},

    {operation::depthwise, "depthwise layers of MobileNetV2", "112x112x32_k3s1p1", true},
    {operation::depthwise, "depthwise layers of MobileNetV2", "112x112x96_k3s2p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "56x56x144_k3s1p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "56x56x144_k3s2p1", true},
    {operation::depthwise, "depthwise layers of MobileNetV2", "28x28x192_k3s1p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "28x28x192_k3s2p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "14x14x384_k3s1p1", true},
    {operation::depthwise, "depthwise layers of MobileNetV2", "14x14x576_k3s1p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "14x14x576_k3s2p1", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "7x7x960_k3s1p1", true},
    {operation::depthwise, "depthwise layers of MobileNetV2", "14x14x384_k3s1p1_zp", false},
    {operation::depthwise, "depthwise layers of MobileNetV2", "56x56x144_k3s2p1_zp", false},

    {operation::quantize, "elementwise", "32768", true},
    {operation::quantize, "elementwise", "4194304", true},
    {operation::dequantize, "elementwise", "32768", false},
    {operation::dequantize, "elementwise", "4194304", false},
    {operation::requantize, "elementwise", "32768", false},
    {operation::requantize, "elementwise", "4194304", false},
    {operation::fake_quantize, "elementwise", "32768", false},
    {operation::fake_quantize, "elementwise", "4194304", false},
};

/// Shapes that two threads are expected to halve.
constexpr entry on_two_threads[] = {
    {operation::gemm, "two threads", "1024x1024x1024", true},
    {operation::gemm, "two threads", "128x768x768", false},
    {operation::gemm, "two threads", "128x3072x768", false},
    {operation::gemm, "two threads", "128x768x3072", false},
    {operation::conv2d, "two threads", "56x56x64_k3s1p1_to64", false},
    {operation::conv2d, "two threads", "14x14x256_k3s1p1_to256", false},
};

problem make(const entry& e, int threads) {
    problem p;
    p.op = e.op;
    p.group = e.group;
    p.quick = e.quick;
    p.threads = threads;
    if (const std::string fault = parse_shape(e.shape, p); !fault.empty()) throw std::logic_error(fault);
    return p;
}

} // namespace

std::vector<problem> report_problems() {
    std::vector<problem> all;
    for (const entry& e : entries) all.push_back(make(e, 1));
    for (const entry& e : on_two_threads) all.push_back(make(e, 2));
    return all;
}

} // namespace bench
