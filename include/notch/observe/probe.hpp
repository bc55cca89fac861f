// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/probe.hpp: where do the float, the fake-quantized and the integer version of a network part?
// Each forward function of yours takes a tap and shows it what every layer gives; the probe compares the
// versions layer by layer, batch by batch:
//
//     void forward(const activation& x, notch::phase p, notch::tap tap = {}) {
//         conv1.forward(x, h, p, false, ctx);
//         tap("conv1", h);                                  // a tap of no probe does nothing
//         ...
//     }
//     notch::probe probe;
//     for (each batch) {
//         net.forward(x, phase::fp32, probe.real());
//         net.forward(x_codes, phase::quantized, probe.fake_quantized());
//         frozen.forward(x_codes, probe.integer());
//         probe.next_batch();
//     }
//     std::puts(notch::to_text(probe).c_str());             // notch/report/probe_text.hpp
//
// Any two versions will do, in any order. Layers are known by name; within a batch a version shows each of
// them once. The probe keeps a copy of a batch, until the next one replaces it, and of all batches statistics only.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/observe/probed_layer.hpp>
#include <notch/ref/quantize.hpp>

NOTCH_KEYED_BEGIN

class tap;

/// Taps refer to the probe: it must outlive them, and stay where it is. Not thread-safe: one for each thread,
/// then merge. What is refused (notch::error) leaves it as it was. When memory runs out (std::bad_alloc), what was
/// being shown or merged may be counted in part: let go of the probe.
class probe {
public:
    /// The taps of the three versions.
    [[nodiscard]] tap real() noexcept;
    [[nodiscard]] tap fake_quantized() noexcept;
    [[nodiscard]] tap integer() noexcept;

    /// What is shown from now on belongs to another batch, which may have another size.
    void next_batch() noexcept {
        open_ = false;
        for (entry& e : entries_)
            for (shown& s : e.versions) s.here = false;
    }
    /// As if the batches of other had followed those of this one; sums to the rounding of doubles. Layers of
    /// one name must have the same number of channels; else nothing changes.
    void merge(const probe& other) {
        for (const entry& e : other.entries_)
            if (const entry* mine = find(e.layer.name))
                detail::check_equal("probe.merge", channels_of(e.layer.name), e.layer.channels, mine->layer.channels);
        const std::int64_t before = batches_;
        const std::size_t count = other.entries_.size(); // other may be this
        next_batch();
        for (std::size_t i = 0; i < count; ++i) {
            const probed_layer from = other.entries_[i].layer;
            probed_layer& to = entry_of(from.name, from.channels).layer;
            join(to.real, from.real);
            join(to.fake_quantized, from.fake_quantized);
            join(to.integer, from.integer);
            join(to.mismatch, from.mismatch, before);
        }
        batches_ = before + other.batches_;
    }

    /// Batches of which something was shown.
    [[nodiscard]] std::int64_t batches() const noexcept { return batches_; }
    /// The number of layers, in the order in which they were first shown.
    [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(entries_.size()); }
    /// A layer by number or by name; the reference holds until a new layer is shown.
    [[nodiscard]] const probed_layer& operator[](index_t i) const {
        if (i < 0 || i >= size()) fail(errc::invalid_argument, detail::cat("probe: layer ", i, " of ", size()));
        return entries_[static_cast<std::size_t>(i)].layer;
    }
    [[nodiscard]] const probed_layer& operator[](std::string_view name) const {
        const entry* e = find(name);
        if (!e) fail(errc::invalid_argument, detail::cat("probe: no layer \"", name, "\" among its ", size()));
        return e->layer;
    }

private:
    friend class tap;
    enum kind : std::size_t { real_, fake_, integer_ };

    /// What a version showed of a layer in this batch.
    struct shown {
        bool here = false, has_codes = false;
        buffer<float> values;
        buffer<std::int32_t> codes;
        quant_params params;
        code_range range;
    };
    struct entry {
        probed_layer layer;
        std::array<shown, 3> versions;
    };

    static const char* name_of(kind k) noexcept {
        return k == real_ ? "real" : k == fake_ ? "fake-quantized" : "integer";
    }
    static std::string label(std::string_view name, kind k) {
        return detail::cat("layer \"", name, "\", ", name_of(k));
    }
    static std::string channels_of(std::string_view name) {
        return detail::cat("layer \"", name, "\": the number of channels");
    }
    static probed_version& version_of(probed_layer& l, kind k) noexcept {
        return k == real_ ? l.real : k == fake_ ? l.fake_quantized : l.integer;
    }

    [[nodiscard]] const entry* find(std::string_view name) const noexcept {
        for (const entry& e : entries_)
            if (e.layer.name == name) return &e;
        return nullptr;
    }
    entry& entry_of(std::string_view name, index_t channels) {
        for (entry& e : entries_)
            if (e.layer.name == name) return e;
        entry& e = entries_.emplace_back();
        e.layer.name = name;
        e.layer.channels = channels;
        return e;
    }

    /// Everything that can be refused, then a place for n values.
    shown& open(kind k, std::string_view name, index_t n, index_t channels) {
        if (name.empty()) fail(errc::invalid_argument, "probe: the name of a layer is empty");
        if (channels < 1 || n % channels != 0)
            fail(errc::shape_mismatch,
                 detail::cat("probe: ", label(name, k), ": ", n, " values do not divide into ", channels, " channels"));
        if (const entry* e = find(name)) {
            detail::check_equal("probe", channels_of(name), channels, e->layer.channels);
            if (e->versions[k].here)
                fail(errc::invalid_argument,
                     detail::cat("probe: ", label(name, k), ": shown twice in one batch; next_batch() begins another"));
            for (kind other : {real_, fake_, integer_})
                if (e->versions[other].here && e->versions[other].values.size() != n)
                    fail(errc::shape_mismatch, detail::cat("probe: ", label(name, k), ": has ", n, " values, ",
                                                           name_of(other), " has ", e->versions[other].values.size()));
        }
        shown& s = entry_of(name, channels).versions[k];
        s.values.resize_discard(n);
        return s;
    }
    void show(kind k, std::string_view name, std::span<const float> values, index_t channels) {
        detail::check_span("probe", "values", values);
        shown& s = open(k, name, static_cast<index_t>(values.size()), channels);
        std::copy(values.begin(), values.end(), s.values.begin());
        s.has_codes = false;
        close(k, name);
    }
    template <class Code>
    void show(kind k, std::string_view name, std::span<const Code> codes, quant_params params, index_t channels,
              code_range range) {
        detail::check_span("probe", "codes", codes);
        constexpr std::int32_t least = std::numeric_limits<Code>::min(), most = std::numeric_limits<Code>::max();
        if (range.lo > range.hi || range.lo < least || range.hi > most)
            fail(errc::invalid_argument, detail::cat("probe: ", label(name, k), ": codes in ", range.lo, "..", range.hi,
                                                     ", must be a range within ", least, "..", most));
        detail::check_params(detail::cat("probe: ", label(name, k)), "params", params, range.lo, range.hi);
        if (range.lo > least || range.hi < most)
            for (std::size_t i = 0; i < codes.size(); ++i)
                if (codes[i] < range.lo || codes[i] > range.hi)
                    fail(errc::invalid_argument, detail::cat("probe: ", label(name, k), ": code ", i, " is ",
                                                             static_cast<std::int32_t>(codes[i]),
                                                             ", outside its range ", range.lo, "..", range.hi));
        shown& s = open(k, name, static_cast<index_t>(codes.size()), channels);
        s.codes.resize_discard(s.values.size());
        for (index_t i = 0; i < s.codes.size(); ++i) {
            s.codes[i] = codes[static_cast<std::size_t>(i)];
            s.values[i] = ref::dequantize(s.codes[i], params);
        }
        s.params = params;
        s.range = range;
        s.has_codes = true;
        close(k, name);
    }
    /// Takes what has just been shown into the statistics.
    void close(kind k, std::string_view name) {
        if (!open_) ++batches_;
        open_ = true;
        entry& e = entry_of(name, 0);
        shown& s = e.versions[k];
        s.here = true;
        describe(version_of(e.layer, k), s, e.layer.channels);
        const shown& reference = e.versions[real_];
        for (kind other : {fake_, integer_})
            if (reference.here && e.versions[other].here && (k == real_ || k == other))
                compare(version_of(e.layer, other), reference, e.versions[other]);
        if (k != real_ && e.versions[fake_].here && e.versions[integer_].here)
            compare(e.layer.mismatch, e.versions[fake_], e.versions[integer_]);
    }

    static void start_channels(probed_version& v, index_t channels) {
        if (!v.channel_min.empty()) return;
        v.channel_min = v.channel_max = buffer<float>(channels);
        std::fill(v.channel_min.begin(), v.channel_min.end(), real_range{}.min);
        std::fill(v.channel_max.begin(), v.channel_max.end(), real_range{}.max);
    }
    static void widen(float& min, float& max, float lo, float hi) noexcept {
        min = std::min(min, lo);
        max = std::max(max, hi);
    }
    static void describe(probed_version& v, const shown& s, index_t channels) {
        start_channels(v, channels);
        ++v.batches;
        v.values += s.values.size();
        for (index_t i = 0; i < s.values.size();)
            for (index_t c = 0; c < channels; ++c, ++i) {
                const float x = s.values[i];
                if (std::isfinite(x))
                    widen(v.channel_min[c], v.channel_max[c], x, x);
                else
                    ++v.nonfinite;
            }
        for (index_t c = 0; c < channels; ++c) widen(v.range.min, v.range.max, v.channel_min[c], v.channel_max[c]);
        if (!s.has_codes) return;
        v.params = s.params;
        v.codes += s.codes.size();
        for (std::int32_t code : s.codes) {
            v.at_lo += code == s.range.lo;
            v.at_hi += code == s.range.hi;
        }
    }
    static void compare(probed_version& v, const shown& reference, const shown& s) {
        v.error.observe(reference.values, s.values);
        if (!s.has_codes) return;
        const auto end = [&](std::int32_t code, double step) { // half a step beyond it
            return (static_cast<double>(code - s.params.zero_point) + step) * static_cast<double>(s.params.scale);
        };
        const double lo = end(s.range.lo, -0.5), hi = end(s.range.hi, 0.5);
        for (float x : reference.values) v.clipped += static_cast<double>(x) < lo || static_cast<double>(x) > hi;
    }
    void compare(probed_mismatch& m, const shown& fake, const shown& integer) const {
        const bool by_code = fake.has_codes || integer.has_codes;
        m.other_grids += fake.has_codes && integer.has_codes && !(fake.params == integer.params);
        const auto get = [by_code](const shown& s, const shown& other, index_t i) {
            if (s.has_codes) return static_cast<double>(s.codes[i]);
            return by_code ? static_cast<double>(ref::quantize(s.values[i], other.params, other.range))
                           : static_cast<double>(s.values[i]);
        };
        for (index_t i = 0; i < fake.values.size(); ++i) {
            const double a = get(fake, integer, i), b = get(integer, fake, i);
            if (a == b || (a != a && b != b)) continue;
            if (m.index < 0) {
                m.batch = batches_ - 1;
                m.index = i;
                m.fake_quantized = a;
                m.integer = b;
            }
            ++m.different;
        }
        m.compared += fake.values.size();
    }

    static void join(probed_version& a, const probed_version& b) {
        if (b.batches == 0) return;
        start_channels(a, b.channel_min.size());
        a.batches += b.batches;
        a.values += b.values;
        a.nonfinite += b.nonfinite;
        a.codes += b.codes;
        a.at_lo += b.at_lo;
        a.at_hi += b.at_hi;
        a.clipped += b.clipped;
        if (b.codes > 0) a.params = b.params;
        widen(a.range.min, a.range.max, b.range.min, b.range.max);
        a.error.merge(b.error);
        for (index_t c = 0; c < a.channel_min.size(); ++c)
            widen(a.channel_min[c], a.channel_max[c], b.channel_min[c], b.channel_max[c]);
    }
    static void join(probed_mismatch& a, const probed_mismatch& b, std::int64_t batches_before) {
        a.compared += b.compared;
        a.different += b.different;
        a.other_grids += b.other_grids;
        if (a.index >= 0 || b.index < 0) return;
        a.batch = b.batch + batches_before;
        a.index = b.index;
        a.fake_quantized = b.fake_quantized;
        a.integer = b.integer;
    }

    std::vector<entry> entries_;
    std::int64_t batches_ = 0;
    bool open_ = false; ///< something of the current batch has been shown
};

/// What a forward function shows its layers to: one version of a probe, or nothing. A pointer and a number: pass
/// it by value.
class tap {
public:
    /// A tap that does nothing.
    tap() noexcept {}
    [[nodiscard]] explicit operator bool() const noexcept { return probe_ != nullptr; }

    /// Real values, channels last: their number is a multiple of channels. NaN and infinities are counted. An
    /// error that names the layer if another version of it has another size or number of channels, or if this
    /// version has shown it in this batch already.
    void operator()(std::string_view layer, std::span<const float> values, index_t channels) const {
        if (probe_) probe_->show(kind_, layer, values, channels);
    }
    /// Codes of 8 or 16 bits (any contiguous range of them), their parameters, and the range that they may take:
    /// by default that of their type. A code outside of it is an error that names the layer and its index.
    template <class Codes>
    void operator()(std::string_view layer, const Codes& codes, quant_params params, index_t channels,
                    code_range range = default_range<Codes>()) const {
        const std::span<const code_of<Codes>> span(codes);
        if (probe_) probe_->show(kind_, layer, span, params, channels, range);
    }
    /// What flows between notch's layers (layers/activation.hpp): its codes if it is quantized, else its values.
    template <class Activation>
        requires requires(const Activation& a) {
            { a.quantized } -> std::convertible_to<bool>;
            { a.c } -> std::convertible_to<index_t>;
        }
    void operator()(std::string_view layer, const Activation& a) const {
        if (a.quantized)
            (*this)(layer, a.codes, a.params, a.c);
        else
            (*this)(layer, a.values, a.c);
    }

private:
    friend class probe;
    tap(notch::probe& p, probe::kind k) noexcept : probe_(&p), kind_(k) {}

    template <class Codes> struct element {
        using type = std::remove_cv_t<typename decltype(std::span(std::declval<const Codes&>()))::element_type>;
        static_assert(std::is_integral_v<type> && sizeof(type) <= 2,
                      "notch::tap: codes are integers of 8 or 16 bits; real values are shown without parameters");
    };
    template <class Codes> using code_of = typename element<Codes>::type;
    template <class Codes> [[nodiscard]] static constexpr code_range default_range() noexcept {
        using limits = std::numeric_limits<code_of<Codes>>;
        return {limits::min(), limits::max()};
    }

    notch::probe* probe_ = nullptr;
    probe::kind kind_ = probe::real_;
};

inline tap probe::real() noexcept { return {*this, real_}; }
inline tap probe::fake_quantized() noexcept { return {*this, fake_}; }
inline tap probe::integer() noexcept { return {*this, integer_}; }

NOTCH_KEYED_END
