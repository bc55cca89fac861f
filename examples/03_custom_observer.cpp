// SPDX-License-Identifier: Apache-2.0
//
// A custom observer: any type with observe, merge and range. This one clips at mean +- k sigma, so
// that a few outliers do not stretch the grid; it composes with fake_quant like notch's own. (For use, take
// notch::mean_sigma, which keeps its digits far from zero and stays within the values seen.)
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <notch/qat/fake_quant.hpp>

struct mean_k_sigma {
    float k = 3.0f;
    double count = 0, sum = 0, squares = 0;

    void observe(std::span<const float> x) {
        for (float v : x) {
            if (!std::isfinite(v)) continue; // observers must survive anything
            const auto d = static_cast<double>(v);
            count += 1;
            sum += d;
            squares += d * d;
        }
    }
    void merge(const mean_k_sigma& other) { // sums add up: shards and threads combine exactly
        count += other.count;
        sum += other.sum;
        squares += other.squares;
    }
    [[nodiscard]] notch::real_range range() const {
        if (count == 0) return {}; // empty: nothing seen
        const double mean = sum / count, sigma = std::sqrt(std::max(0.0, squares / count - mean * mean));
        return {static_cast<float>(mean - static_cast<double>(k) * sigma),
                static_cast<float>(mean + static_cast<double>(k) * sigma)};
    }
};
static_assert(notch::observer<mean_k_sigma>);

template <class Observer> double mean_error(const std::vector<float>& x, const Observer& o) {
    const auto n = static_cast<notch::index_t>(x.size());
    notch::fake_quant<notch::affine<8>, notch::per_tensor, Observer> q({n}, o);
    q.observe(x);
    const auto y = q.forward(x);
    double sum = 0;
    std::size_t counted = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
        if (std::fabs(x[i]) < 3.0f) { // the bulk of the values
            sum += std::fabs(static_cast<double>(y[i] - x[i]));
            ++counted;
        }
    return sum / static_cast<double>(counted);
}

int main() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(10000);
    for (float& v : x) v = normal(random);
    x[17] = 200.0f; // one outlier

    const double with_min_max = mean_error(x, notch::min_max{}), with_sigma = mean_error(x, mean_k_sigma{});
    std::printf("mean error of the bulk: min_max %.5f, mean +- 3 sigma %.5f\n", with_min_max, with_sigma);
    return with_sigma < with_min_max ? 0 : 1;
}
