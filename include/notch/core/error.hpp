// SPDX-License-Identifier: Apache-2.0
//
// notch/core/error.hpp: the one error policy.
// Every public function checks its arguments and reports through fail(). With exceptions that
// throws notch::error; with -fno-exceptions it prints the message to stderr and aborts. A message
// names the function, the argument, what was found and what was expected:
//     "gemm: x has 5 columns, the packed weights expect 7"
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

#if NOTCH_EXCEPTIONS
#include <stdexcept>
#endif

NOTCH_NAMESPACE_BEGIN

/// What kind of thing went wrong.
enum class errc {
    invalid_argument, ///< a value outside its documented domain (scale <= 0, NaN, null pointer)
    shape_mismatch,   ///< extents of two arguments do not fit each other
    overflow,         ///< an accumulator or a size could overflow
    unsupported,      ///< this CPU, build or format version lacks what was asked for
    io,               ///< the operating system refused to read or write
    corrupt,          ///< a file is truncated, damaged or hostile
};

#if NOTCH_EXCEPTIONS
/// Thrown by every public function of notch for bad input.
class error : public std::runtime_error {
public:
    NOTCH_INLINE error(errc code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] NOTCH_INLINE errc code() const noexcept { return code_; }

private:
    errc code_;
};
#endif

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Reports an error; never returns.
[[noreturn]] NOTCH_NOINLINE inline void fail(errc code, const std::string& message) {
#if NOTCH_EXCEPTIONS
    throw error(code, message);
#else
    (void)code;
    std::fprintf(stderr, "notch: %s\n", message.c_str());
    std::abort();
#endif
}

namespace detail {

template <class T>
    requires std::is_convertible_v<const T&, std::string_view>
void append(std::string& out, const T& text) { out.append(std::string_view(text)); }
template <class T>
    requires std::is_arithmetic_v<T>
void append(std::string& out, T value) {
    // Not std::to_string: from libstdc++ 13 on it calls a function template of its own, a weak symbol
    // with the instructions of whichever translation unit made it.
    char text[48];
    if constexpr (std::is_floating_point_v<T>)
        std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
    else if constexpr (std::is_signed_v<T>)
        std::snprintf(text, sizeof text, "%lld", static_cast<long long>(value));
    else
        std::snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(value));
    out.append(text);
}

/// The name of an argument in a message: text, [index] if it is not negative, then the rest. Its parts are joined
/// only when there is something to say: checks run in hot calls, some of them for each channel.
struct name_of {
    std::string_view text;
    index_t index = -1;
    std::string_view rest{};

    name_of(const char* t) : text(t) {}
    name_of(std::string_view t) : text(t) {}
    name_of(const std::string& t) : text(t) {}
    name_of(std::string_view t, index_t i) : text(t), index(i) {}
    name_of(std::string_view t, std::string_view r) : text(t), rest(r) {}
};
inline void append(std::string& out, const name_of& name) {
    out.append(name.text);
    if (name.index >= 0) {
        out.append("[");
        append(out, name.index);
        out.append("]");
    }
    out.append(name.rest);
}

/// Joins text and numbers into a message.
template <class... Parts> std::string cat(const Parts&... parts) {
    std::string out;
    (append(out, parts), ...);
    return out;
}

/// A scale must be finite and > 0.
inline void check_scale(std::string_view where, const name_of& name, float scale) {
    if (!(scale > 0.0f) || !std::isfinite(scale))
        fail(errc::invalid_argument, cat(where, ": ", name, " is ", scale, ", a scale must be finite and > 0"));
}

/// A size must be >= 0.
inline void check_extent(std::string_view where, const name_of& name, index_t extent) {
    if (extent < 0) fail(errc::invalid_argument, cat(where, ": ", name, " is ", extent, ", must be >= 0"));
}

/// Two extents must agree.
inline void check_equal(std::string_view where, const name_of& what, index_t found, index_t expected) {
    if (found != expected) fail(errc::shape_mismatch, cat(where, ": ", what, " is ", found, ", expected ", expected));
}

/// A product of extents, refused when it does not fit index_t. Extents are already >= 0.
inline index_t checked_product(std::string_view where, index_t a, index_t b) {
    index_t product = 0;
    if (__builtin_mul_overflow(a, b, &product))
        fail(errc::overflow, cat(where, ": ", a, " x ", b, " elements overflow the address space"));
    return product;
}

} // namespace detail

NOTCH_KEYED_END
