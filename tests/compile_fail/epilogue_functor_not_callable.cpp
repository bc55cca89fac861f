// EXPECT: notch::make_epilogue: the functor of stage::on_tile must be callable as
#include <notch/kernels/gemm.hpp>

auto make(const notch::packed_weights& w) {
    return notch::make_epilogue(w, notch::stage::accumulators{}, notch::stage::on_tile{[](int) {}});
}
