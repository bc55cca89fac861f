// SPDX-License-Identifier: Apache-2.0
//
// Built with -fno-exceptions -fno-rtti. Without arguments: a product that must be right. With one:
// an error, which must print its message and abort.
#include <cstdint>
#include <cstdio>

#include <notch/kernels/gemm.hpp>

int main(int argc, char**) {
    notch::buffer<std::uint8_t> x(6), y(4);
    notch::buffer<std::int8_t> w(6);
    for (notch::index_t i = 0; i < 6; ++i) {
        x[i] = static_cast<std::uint8_t>(i + 1);
        w[i] = static_cast<std::int8_t>(i - 2);
    }
    // x = [1 2 3; 4 5 6], w = [-2 -1 0; 1 2 3]: x * w^T = [-4 14; -13 32]
    const auto packed = notch::pack({w.data(), 2, 3});
    notch::buffer<std::int32_t> acc(4);
    const notch::index_t columns = argc > 1 ? 2 : 3;
    notch::gemm(notch::matrix_view<std::uint8_t>(x.data(), 2, columns), packed,
                notch::make_epilogue(packed, notch::stage::accumulators{}), notch::matrix_view(acc.data(), 2, 2));
    const bool right = acc[0] == -4 && acc[1] == 14 && acc[2] == -13 && acc[3] == 32;
    std::puts(right ? "right" : "wrong");
    return right ? 0 : 1;
}
