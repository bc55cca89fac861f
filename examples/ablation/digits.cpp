// SPDX-License-Identifier: Apache-2.0
//
// The two networks of the demo on its handwritten digits.
#include "experiment.hpp"

namespace ablation {

void add_digits(std::vector<job>& jobs, const settings& how, results& to) {
    static const mnist::dataset train_set = mnist::read_digits(how.data, "train"),
                                test_set = mnist::read_digits(how.data, "test");
    add_jobs<mnist::mobile_net>(
        jobs, subject<mnist::mobile_net, mnist::dataset>{"digits", train_set, test_set, 18, 2, 4e-3f, 1e-3f}, how, to);
    add_jobs<mnist::small_cnn>(
        jobs, subject<mnist::small_cnn, mnist::dataset>{"digits", train_set, test_set, 14, 2, 2e-3f, 1e-3f}, how, to);
}

} // namespace ablation
