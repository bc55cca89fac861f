// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/observer.hpp: what an observer is, and observers per channel.
//
// An observer collects statistics of values it is shown and nothing else; turning them into a scale
// and a zero_point is params_from_range (scheme/range.hpp). A user's observer is any type with the
// members of the concept:
//
//     struct my_observer {
//         void observe(std::span<const float> x);      // may ignore NaN and infinities, must not fail
//         void merge(const my_observer& other);        // as if it had seen the other's values too
//         notch::real_range range() const;             // finite bounds; empty if nothing was seen
//         static constexpr bool splits_batches = true; // optional: see below
//     };
//
// notch's own observers count the values that are not finite and otherwise ignore them; they report
// all they know, and restore() makes an observer of it again.
#pragma once

#include <algorithm>
#include <cfloat>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

template <class O>
concept observer = std::copyable<O> && requires(O& o, const O& other, std::span<const float> x) {
    o.observe(x);
    o.merge(other);
    { other.range() } -> std::same_as<real_range>;
};

/// Whether it does not matter to an observer how many calls of observe its values come in. A type says
/// so with `static constexpr bool splits_batches = true`; unless it does, each call is one batch.
template <class O> inline constexpr bool splits_batches = false;
template <class O>
    requires requires { requires O::splits_batches; }
inline constexpr bool splits_batches<O> = true;

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// No observer sees more values. So much room is left that counting on from here cannot overflow.
inline constexpr std::int64_t most_counted = std::int64_t{1} << 62;

/// What an observer counted: each at least 0, and together not more than that.
inline void check_counts(std::string_view where, std::int64_t finite, std::int64_t nonfinite) {
    if (finite < 0 || nonfinite < 0 || finite > most_counted || nonfinite > most_counted - finite)
        fail(errc::invalid_argument,
             cat(where, ": no observer counts ", finite, " finite and ", nonfinite, " other values"));
}

/// What two observers counted fits together: only files can claim that many values.
inline void check_merge(std::string_view where, std::int64_t a, std::int64_t a_nonfinite, std::int64_t b,
                        std::int64_t b_nonfinite) {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum) || __builtin_add_overflow(sum, a_nonfinite, &sum) ||
        __builtin_add_overflow(sum, b_nonfinite, &sum) || sum > most_counted)
        fail(errc::overflow, cat(where, ": ", a, " and ", b, " values are too many to count"));
}

/// The range of so many finite values: finite bounds in order, or empty if there are no values.
inline void check_observed(std::string_view where, real_range r, std::int64_t finite) {
    if (finite == 0 ? !(r == real_range{}) : !(r.min <= r.max && r.min >= -FLT_MAX && r.max <= FLT_MAX))
        fail(errc::invalid_argument,
             cat(where, ": [", r.min, ", ", r.max, "] is not the range of ", finite, " finite values"));
}
/// The same where values, not batches, are counted: one alone is both bounds.
inline void check_observed_values(std::string_view where, real_range r, std::int64_t finite) {
    check_observed(where, r, finite);
    if (finite == 1 && r.min != r.max)
        fail(errc::invalid_argument, cat(where, ": [", r.min, ", ", r.max, "] is not the range of one value"));
}

} // namespace detail

/// One observer for each channel of a tensor seen as [outer][channels][inner], or for each group of a layout with
/// groups (scheme/granularity.hpp): a channel is then what shares parameters.
template <observer O> class channel_observer {
public:
    explicit channel_observer(index_t channels, const O& initial = O{}) {
        detail::check_extent("channel_observer", "channels", channels);
        detail::check_view_extent("channel_observer", "channels", channels);
        each_.assign(static_cast<std::size_t>(channels), slot{initial});
    }

    /// x.size() must be layout.size() and layout.count() the number of channels.
    void observe(std::span<const float> x, const channel_layout& layout) {
        detail::check_span("channel_observer.observe", "x", x);
        if (!layout.is_by_channel()) {
            detail::check_layout("channel_observer.observe", layout);
            detail::check_equal("channel_observer.observe", "the number of groups", layout.count(), channels());
            detail::check_equal("channel_observer.observe", "the size of x", static_cast<index_t>(x.size()),
                                layout.size());
            std::vector<float> group;
            for (index_t p = 0; p < channels(); ++p) {
                std::span<const float> values; // a group of one run is shown where it stands
                group.clear();
                detail::for_each_run_of(layout, p, [&](index_t at, index_t n) {
                    const auto run = x.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
                    if (!values.empty() && group.empty()) group.assign(values.begin(), values.end());
                    if (!values.empty()) group.insert(group.end(), run.begin(), run.end());
                    values = values.empty() ? run : std::span<const float>(group);
                });
                each_[static_cast<std::size_t>(p)].observer.observe(values);
            }
            return;
        }
        detail::check_layout("channel_observer.observe", layout);
        detail::check_equal("channel_observer.observe", "the number of channels", layout.channels,
                            static_cast<index_t>(each_.size()));
        detail::check_equal("channel_observer.observe", "the size of x", static_cast<index_t>(x.size()), layout.size());
        if (layout.outer == 1) {
            for (index_t c = 0; c < layout.channels; ++c)
                each_[static_cast<std::size_t>(c)].observer.observe(
                    x.subspan(static_cast<std::size_t>(c * layout.inner), static_cast<std::size_t>(layout.inner)));
            return;
        }
        if (x.empty()) return;
        // Channels are gathered side by side, then shown each to its observer: as much as fits the
        // first caches at a time, or all at once to an observer for which a call is a batch.
        const index_t pixel = layout.channels * layout.inner;
        index_t rows = layout.outer;
        if constexpr (splits_batches<O>) rows = std::clamp<index_t>(gathered / pixel, 1, layout.outer);
        buffer<float> columns(rows * pixel);
        for (index_t from = 0; from < layout.outer; from += rows) {
            const index_t count = std::min(rows, layout.outer - from), run = count * layout.inner;
            const float* source = x.data() + from * pixel;
            if (layout.inner == 1)
                transpose(source, count, layout.channels, columns.data());
            else
                for (index_t o = 0; o < count; ++o)
                    for (index_t c = 0; c < layout.channels; ++c, source += layout.inner)
                        std::memcpy(columns.data() + c * run + o * layout.inner, source,
                                    static_cast<std::size_t>(layout.inner) * sizeof(float));
            for (index_t c = 0; c < layout.channels; ++c)
                each_[static_cast<std::size_t>(c)].observer.observe(
                    {columns.data() + c * run, static_cast<std::size_t>(run)});
        }
    }

    void merge(const channel_observer& other) {
        detail::check_equal("channel_observer.merge", "the number of channels",
                            static_cast<index_t>(other.each_.size()), static_cast<index_t>(each_.size()));
        for (std::size_t c = 0; c < each_.size(); ++c) each_[c].observer.merge(other.each_[c].observer);
    }

    [[nodiscard]] index_t channels() const noexcept { return static_cast<index_t>(each_.size()); }
    [[nodiscard]] real_range range(index_t c) const { return (*this)[c].range(); }
    [[nodiscard]] const O& operator[](index_t c) const {
        if (c < 0 || c >= channels())
            fail(errc::invalid_argument, detail::cat("channel_observer: channel ", c, " of ", channels()));
        return each_[static_cast<std::size_t>(c)].observer;
    }

    /// Replaces the observer of channel c, for what was saved.
    void restore(index_t c, const O& o) {
        (void)(*this)[c];
        each_[static_cast<std::size_t>(c)].observer = o;
    }

private:
    static constexpr index_t gathered = 8192; ///< floats: 32 KiB

    /// to[c][r] = from[r][c], in squares that keep both sides in the cache.
    static void transpose(const float* from, index_t rows, index_t channels, float* to) noexcept {
        constexpr index_t side = 16;
        for (index_t r0 = 0; r0 < rows; r0 += side)
            for (index_t c0 = 0; c0 < channels; c0 += side)
                for (index_t c = c0; c < std::min(c0 + side, channels); ++c)
                    for (index_t r = r0; r < std::min(r0 + side, rows); ++r) to[c * rows + r] = from[r * channels + c];
    }
    /// Gives the instantiations of std::vector a name with the key of the translation unit: those
    /// of std::vector<min_max> would be merged between units compiled with different flags.
    struct slot {
        O observer;
    };
    std::vector<slot> each_;
};

NOTCH_KEYED_END
