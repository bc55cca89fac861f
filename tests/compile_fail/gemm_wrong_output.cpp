// EXPECT: notch::gemm: the element type of y must be what the epilogue produces
#include <notch/kernels/gemm.hpp>

void run(notch::matrix_view<const std::uint8_t> x, const notch::packed_weights& w, notch::matrix_view<float> y) {
    notch::gemm(x, w, notch::make_epilogue(w, notch::stage::accumulators{}), y);
}
