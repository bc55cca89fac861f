// EXPECT: e.run(n, task)
#include <notch/core/parallel.hpp>

struct pool {
    notch::index_t concurrency() const { return 1; }
};
pool threads;
notch::executor_ref executor(threads);
