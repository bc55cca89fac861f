// SPDX-License-Identifier: Apache-2.0
//
// node_tests <folder or file>...: runs ONNX's own node tests of the quantization operators on every instruction set
// of this CPU and compares bit for bit. Prints the counts, each difference, and each case that is left out with its
// reason; with -v every case. A folder is one of onnx or of libonnx-testdata (.../data/node), a file one of
// write_cases.py.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "operators.hpp"

namespace {

/// What differs between an output and the one of the test, or nothing. Two NaN are equal: ONNX says nothing about signs
/// and payloads.
std::string difference(const onnx::tensor& got, const onnx::tensor& expected) {
    if (got.type != expected.type) return "another element type";
    if (got.dims != expected.dims) return "another shape";
    if (got.bytes == expected.bytes) return {};
    if (got.bytes.size() != expected.bytes.size()) return "another number of bytes";
    if (expected.type == onnx::type::float64 || expected.type == onnx::type::int32) {
        const std::size_t size = got.bytes.size() / onnx::at(got.size());
        for (std::size_t i = 0; i < got.bytes.size(); ++i) {
            if (got.bytes[i] == expected.bytes[i]) continue;
            if (expected.type == onnx::type::float64) {
                const double a = onnx::plain<double>(got)[i / size], b = onnx::plain<double>(expected)[i / size];
                if (a != a && b != b) continue;
            }
            return "element " + std::to_string(i / size);
        }
        return {};
    }
    const auto a = onnx::reals(got), b = onnx::reals(expected);
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i] != a[i] && b[i] != b[i]) continue;
        if (a[i] == b[i] && std::signbit(a[i]) == std::signbit(b[i])) continue;
        char text[80];
        std::snprintf(text, sizeof text, "element %zu is %.9g, must be %.9g", i, static_cast<double>(a[i]),
                      static_cast<double>(b[i]));
        return text;
    }
    return {};
}

/// Whether the bfloat16 outputs are the upper halves of the inputs. (onnx 1.12; its text says nothing of rounding.)
bool cuts(const onnx::data_set& d) {
    const auto x = onnx::reals(d.inputs[0]), y = onnx::reals(d.outputs[0]);
    bool rounded = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i] != x[i]) continue;
        if (std::bit_cast<std::uint32_t>(y[i]) != (std::bit_cast<std::uint32_t>(x[i]) & 0xffff0000u)) return false;
        rounded = rounded || notch::from_bfloat16(notch::to_bfloat16(x[i])) != y[i];
    }
    return rounded;
}

/// Whether y, of an integer type, holds these numbers (give or take `near`), and some that are too large for it:
/// clamped, or without their high bits.
bool holds(const onnx::tensor& y, const std::vector<double>& numbers, bool clamped, double near = 0) {
    const auto values = onnx::reals(y);
    bool fits = true, same = values.size() == numbers.size();
    onnx::with_range(y.type, [&](auto range) {
        const double lo = range.qmin, hi = range.qmax, count = hi - lo + 1;
        for (std::size_t i = 0; same && i < values.size(); ++i) {
            const double v = numbers[i];
            fits = fits && v >= lo && v <= hi;
            const double fitted = clamped ? std::fmin(std::fmax(v, lo), hi) : v - count * std::floor((v - lo) / count);
            same = std::fabs(static_cast<double>(values[i]) - fitted) <= near;
        }
        return 0;
    });
    return same && !fits;
}
/// The data of onnx 1.17 clamp what is cast to 4 bits, where later ones (and casts to 8 bits) cut high bits off, and
/// cut high bits off the products of int8, which ONNX's text saturates.
void leave_out_1_17(const onnx::node_case& c, const onnx::data_set& d) {
    const onnx::tensor& y = d.outputs[0];
    const onnx::arguments a(c, d);
    std::vector<double> exact;
    if (c.op == "Cast" && (y.type == onnx::type::int4 || y.type == onnx::type::uint4)) {
        for (float v : onnx::reals(a[0])) exact.push_back(static_cast<double>(std::trunc(v)));
        if (holds(y, exact, true))
            throw onnx::left_out("its data are clamped, where those of later versions lose high bits");
    }
    if (c.op == "QLinearMatMul" && y.type == onnx::type::int8) {
        const auto x = onnx::reals(a[0]), w = onnx::reals(a[3]), x_zero = onnx::reals(a[2]), w_zero = onnx::reals(a[5]);
        const double scale = static_cast<double>(onnx::scale_of(&a[1])) * static_cast<double>(onnx::scale_of(&a[4])) /
                             static_cast<double>(onnx::scale_of(&a[6]));
        const std::size_t k = onnx::at(a[0].dims.back()), n = onnx::at(a[3].dims.back());
        const std::size_t m = onnx::at(a[0].dims[a[0].dims.size() - 2]), shared = a[3].dims.size() == 2 ? 0 : k * n;
        for (std::size_t r = 0; r < x.size() / k; ++r)
            for (std::size_t j = 0; j < n; ++j) {
                double sum = 0;
                for (std::size_t i = 0; i < k; ++i)
                    sum +=
                        static_cast<double>((x[r * k + i] - x_zero[0]) * (w[r / m * shared + i * n + j] - w_zero[0]));
                exact.push_back(std::nearbyint(sum * scale) + static_cast<double>(onnx::reals(a[7])[0]));
            }
        const double near = a[1].type == onnx::type::float16 ? 1 : 0; // its scales are multiplied as such
        if (holds(y, exact, false, near)) throw onnx::left_out("its data lose high bits, where ONNX's text saturates");
    }
}

/// Puts right what contradicts ONNX's own text, and says what that is. Cast to FLOAT4E2M1: NaN gives 6 by the table of
/// onnx.ai/onnx/technical/float4.html, but ml_dtypes, which made the data, gives -0.
std::string correct(const onnx::node_case& c, onnx::data_set& d) {
    using format = notch::fp4_e2m1;
    leave_out_1_17(c, d);
    if (c.op == "Cast" && d.outputs[0].type == onnx::type::bfloat16 && cuts(d))
        throw onnx::left_out("its data cut the low half off, where those of later versions are rounded to even");
    if (c.op != "Cast" || d.outputs[0].type != onnx::type::float4e2m1) return {};
    const auto x = onnx::reals(d.inputs[0]);
    auto codes = onnx::codes<format>(d.outputs[0]);
    bool corrected = false;
    for (std::size_t i = 0; i < x.size(); ++i)
        if (x[i] != x[i] && codes[i] != format::max_code) {
            codes[i] = static_cast<std::uint8_t>(format::max_code);
            corrected = true;
        }
    d.outputs[0] = onnx::of_codes<format>(d.outputs[0].type, d.outputs[0].dims, codes);
    return corrected ? "NaN gives 6, as the text of ONNX has it, not -0 as in its data" : "";
}

/// Runs a case on all instruction sets: empty, or what differs.
std::string check(const onnx::node_case& c, std::string& correction) {
    if (c.data.empty()) return "no data";
    for (onnx::data_set d : c.data) {
        correction = correct(c, d);
        for (notch::isa target : notch::available_isas()) {
            const auto outputs = onnx::run(c, d, notch::context(target));
            if (outputs.size() != d.outputs.size()) return "another number of outputs";
            for (std::size_t k = 0; k < outputs.size(); ++k)
                if (const std::string text = difference(outputs[k], d.outputs[k]); !text.empty())
                    return "output " + std::to_string(k) + ", " + std::string(to_string(target)) + ": " + text;
        }
    }
    return {};
}

} // namespace

int main(int argc, char** argv) {
    bool verbose = false;
    std::vector<std::string> paths;
    for (int i = 1; i < argc; ++i) {
        if (std::string(argv[i]) == "-v")
            verbose = true;
        else
            paths.emplace_back(argv[i]);
    }
    std::size_t failed = 0, ran = 0;
    if (const char* more = std::getenv("NOTCH_ONNX_DATA"); more != nullptr && *more != 0) {
        paths.emplace_back(more);
        if (!std::filesystem::exists(more)) ++failed; // what was asked for must be there
    }
    for (const std::string& path : paths) {
        if (!std::filesystem::exists(path)) {
            std::printf("note: ONNX node tests: %s: not run here: not found\n", path.c_str());
            continue;
        }
        std::size_t passed = 0, out = 0;
        std::string remarks;
        const std::string name =
            std::filesystem::is_directory(path) ? path : std::filesystem::path(path).filename().string();
        const auto cases = onnx::read_cases(path);
        if (cases.empty()) ++failed; // another place than was meant
        for (const onnx::node_case& c : cases) {
            std::string fault, correction;
            try {
                fault = check(c, correction);
            } catch (const onnx::left_out& reason) {
                ++out;
                remarks += "note: ONNX node tests, left out: " + c.name + ": " + reason.what() + "\n";
                continue;
            } catch (const std::exception& e) {
                fault = e.what();
            }
            if (!correction.empty())
                remarks += "note: ONNX node tests, corrected: " + c.name + ": " + correction + "\n";
            if (fault.empty()) ++passed;
            if (verbose || !fault.empty())
                std::printf("%s %s%s%s\n", fault.empty() ? "passed" : "FAILED", c.name.c_str(),
                            fault.empty() ? "" : ": ", fault.c_str());
        }
        std::printf("note: ONNX node tests: %s: %zu cases, %zu run, %zu passed, %zu left out\n%s", name.c_str(),
                    cases.size(), cases.size() - out, passed, out, remarks.c_str());
        failed += cases.size() - out - passed;
        ran += cases.size() - out;
    }
    return failed == 0 && ran > 0 ? 0 : 1;
}
