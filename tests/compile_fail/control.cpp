// EXPECT: (compiles)
#include <notch/core/buffer.hpp>
#include <notch/core/parallel.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/scheme/range.hpp>

struct pool {
    notch::index_t concurrency() const { return 1; }
    void run(notch::index_t, notch::task_ref) {}
};

notch::buffer<float> values;
pool threads;
notch::executor_ref executor = threads;
constexpr int bits = notch::affine<8>::bits;
