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
//     };
#pragma once

#include <concepts>
#include <span>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

template <class O>
concept observer = std::copyable<O> && requires(O& o, const O& other, std::span<const float> x) {
    o.observe(x);
    o.merge(other);
    { other.range() } -> std::same_as<real_range>;
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// One observer for each channel of a tensor seen as [outer][channels][inner], or for each group of a layout with
/// groups (scheme/granularity.hpp): a channel is then what shares parameters.
template <observer O> class channel_observer {
public:
    explicit channel_observer(index_t channels, const O& initial = O{}) {
        detail::check_extent("channel_observer", "channels", channels);
        each_.assign(static_cast<std::size_t>(channels), slot{initial});
    }

    /// x.size() must be layout.size() and layout.count() the number of channels.
    void observe(std::span<const float> x, const channel_layout& layout) {
        if (!layout.is_by_channel()) {
            detail::check_layout("channel_observer.observe", layout);
            detail::check_equal("channel_observer.observe", "the number of groups", layout.count(), channels());
            detail::check_equal("channel_observer.observe", "the size of x", static_cast<index_t>(x.size()), layout.size());
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
        std::vector<float> column;
        for (index_t c = 0; c < layout.channels; ++c) {
            if (layout.outer == 1) {
                each_[static_cast<std::size_t>(c)].observer.observe(x.subspan(static_cast<std::size_t>(c * layout.inner),
                                                                     static_cast<std::size_t>(layout.inner)));
                continue;
            }
            // Gathered, so that an observer sees a batch of values at once.
            column.clear();
            for (index_t o = 0; o < layout.outer; ++o) {
                const auto at = x.begin() + (o * layout.channels + c) * layout.inner;
                column.insert(column.end(), at, at + layout.inner);
            }
            each_[static_cast<std::size_t>(c)].observer.observe(column);
        }
    }

    void merge(const channel_observer& other) {
        detail::check_equal("channel_observer.merge", "the number of channels", static_cast<index_t>(other.each_.size()),
                            static_cast<index_t>(each_.size()));
        for (std::size_t c = 0; c < each_.size(); ++c) each_[c].observer.merge(other.each_[c].observer);
    }

    [[nodiscard]] index_t channels() const noexcept { return static_cast<index_t>(each_.size()); }
    [[nodiscard]] real_range range(index_t c) const { return (*this)[c].range(); }
    [[nodiscard]] const O& operator[](index_t c) const {
        if (c < 0 || c >= channels())
            fail(errc::invalid_argument, detail::cat("channel_observer: channel ", c, " of ", channels()));
        return each_[static_cast<std::size_t>(c)].observer;
    }

private:
    /// Gives the instantiations of std::vector a name with the key of the translation unit: those
    /// of std::vector<min_max> would be merged between units compiled with different flags.
    struct slot {
        O observer;
    };
    std::vector<slot> each_;
};

NOTCH_KEYED_END
