// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdio>

#include <notch/kernels/gemm.hpp>
#ifdef CONSUMER_EIGEN
#include <Eigen/Core>
#endif

int main() {
    notch::buffer<std::uint8_t> x(64);
    notch::buffer<std::int8_t> w(64);
    for (notch::index_t i = 0; i < 64; ++i) {
        x[i] = 255;
        w[i] = -128;
    }
    const auto packed = notch::pack({w.data(), 1, 64});
    std::int32_t acc = 0;
    notch::gemm(notch::matrix_view<std::uint8_t>(x.data(), 1, 64), packed,
                notch::make_epilogue(packed, notch::stage::accumulators{}), notch::matrix_view(&acc, 1, 1));
#ifdef CONSUMER_EIGEN
    if (Eigen::Vector2f(1.0f, 2.0f).sum() < 2.5f) return 1;
#endif
    std::printf("notch %s on %s: %d\n", NOTCH_VERSION_STRING, notch::to_string(notch::default_isa()), acc);
    return acc == -64 * 255 * 128 ? 0 : 1;
}
