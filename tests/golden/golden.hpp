// SPDX-License-Identifier: Apache-2.0
//
// Reads tests/golden/name.txt, and makes the values of tests/golden/sample.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "../catch.hpp"

namespace golden {

class numbers {
public:
    explicit numbers(const std::string& name) {
        std::ifstream in(std::string(NOTCH_SOURCE_DIR) + "/tests/golden/" + name + ".txt");
        REQUIRE(in.good());
        for (std::string line; std::getline(in, line);) {
            if (line.empty() || line[0] == '#') continue;
            std::istringstream words(line);
            std::string key, word;
            words >> key;
            auto& values = values_[key];
            while (words >> word) values.push_back(std::stod(word));
        }
    }
    const std::vector<double>& operator[](const std::string& key) const {
        INFO("golden value " << key);
        REQUIRE(values_.count(key) == 1);
        return values_.at(key);
    }
    /// The only number of a key.
    double one(const std::string& key) const {
        REQUIRE((*this)[key].size() == 1);
        return (*this)[key][0];
    }
    std::vector<std::int64_t> integers(const std::string& key) const {
        std::vector<std::int64_t> v;
        for (double d : (*this)[key]) v.push_back(std::llround(d));
        return v;
    }

private:
    std::map<std::string, std::vector<double>> values_;
};

inline std::vector<float> sample(std::size_t n, std::uint32_t seed, bool relu = false) {
    std::vector<float> x(n);
    std::uint32_t s = seed;
    for (float& v : x) {
        s = s * 1664525u + 1013904223u;
        const float t = static_cast<float>(s >> 8) / 8388608.0f - 1.0f;
        v = t / (1.05f - std::fabs(t));
        if (relu) v = std::max(v, 0.0f);
    }
    return x;
}

} // namespace golden
