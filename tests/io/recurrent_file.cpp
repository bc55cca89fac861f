// SPDX-License-Identifier: Apache-2.0
//
// LSTM and GRU in a model file: round trips, and fields that lie, behind a valid checksum.
#include "../catch.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <notch/io/recurrent_file.hpp>

using namespace notch;

namespace {

recurrent_spec some_spec(index_t gates, int bits, index_t in, index_t hidden, bool per_row = true) {
    std::mt19937 g(static_cast<unsigned>(bits));
    recurrent_spec s;
    s.in_channels = in;
    s.hidden = hidden;
    s.weight_bits = bits;
    const int least = -(1 << (bits - 1));
    const auto fill = [&](buffer<std::int8_t>& w, buffer<float>& scales, buffer<std::int32_t>& bias, index_t cols) {
        w = buffer<std::int8_t>(gates * hidden * cols);
        for (auto& v : w) v = static_cast<std::int8_t>(least + static_cast<int>(g() % (1u << bits)));
        scales = buffer<float>(per_row ? gates * hidden : 1);
        for (float& v : scales) v = 0.001f * static_cast<float>(1 + g() % 9);
        bias = buffer<std::int32_t>(gates * hidden);
        for (auto& v : bias) v = static_cast<std::int32_t>(g() % 2001) - 1000;
    };
    fill(s.weights, s.w_scales, s.bias, in);
    fill(s.recurrent_weights, s.u_scales, s.recurrent_bias, hidden);
    s.x = {0.02f, 7};
    s.h = {1.0f / 100.0f, 101};
    s.cell_scale = gates == 4 ? 0x1p-11f : 0.0f;
    return s;
}
bool same(const auto& a, const auto& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

std::string message_of(auto call) {
    try {
        call();
    } catch (const error& e) {
        return std::string(e.code() == errc::corrupt ? "corrupt " : "") + e.what();
    }
    return "no error";
}

template <class Cell> void round_trip(int bits, index_t in, index_t hidden, bool per_row) {
    const recurrent_spec s = some_spec(Cell::gates, bits, in, hidden, per_row);
    model_writer w("t");
    save_recurrent<Cell>(w, "a", s);
    const model_file f = model_file::parse(w.to_bytes().span());
    const recurrent_spec t = load_recurrent<Cell>(f, "a");
    INFO(Cell::gates << " gates, " << bits << " bits, " << in << " x " << hidden);
    CHECK(t.in_channels == in);
    CHECK(t.hidden == hidden);
    CHECK(t.weight_bits == bits);
    CHECK(same(t.weights, s.weights));
    CHECK(same(t.recurrent_weights, s.recurrent_weights));
    CHECK(same(t.w_scales, s.w_scales));
    CHECK(same(t.u_scales, s.u_scales));
    CHECK(same(t.bias, s.bias));
    CHECK(same(t.recurrent_bias, s.recurrent_bias));
    CHECK(t.x == s.x);
    CHECK(t.h == s.h);
    CHECK(t.cell_scale == s.cell_scale);
    const index_t stored = bits <= 2 ? 2 : bits <= 4 ? 4 : 8;
    CHECK(static_cast<index_t>(f.bytes("a.w").size()) == (Cell::gates * hidden * in * stored + 7) / 8);
    CHECK(static_cast<index_t>(f.bytes("a.u").size()) == (Cell::gates * hidden * hidden * stored + 7) / 8);
    CHECK_NOTHROW(frozen_recurrent<Cell>(t));
}

/// A saved LSTM with one entry of a.p changed.
model_file lying(std::size_t entry, std::int32_t value) {
    model_writer w("t");
    save_recurrent<lstm_cell>(w, "a", some_spec(4, 4, 3, 5));
    const model_file f = model_file::parse(w.to_bytes().span());
    model_writer lie("t");
    for (const tensor_info& t : f.tensors()) {
        if (t.name != "a.p") {
            lie.add(t.name, t.type, t.shape, f.bytes(t.name));
            continue;
        }
        const auto from = f.tensor<std::int32_t>("a.p");
        std::vector<std::int32_t> p(from.begin(), from.end());
        p[entry] = value;
        lie.add<std::int32_t>("a.p", {static_cast<index_t>(p.size())}, p);
    }
    return model_file::parse(lie.to_bytes().span());
}

} // namespace

TEST_CASE("LSTM and GRU round-trip through a model file, codes of 4 and 2 bits packed") {
    for (int bits : {1, 2, 3, 4, 5, 8})
        for (bool per_row : {false, true}) {
            round_trip<lstm_cell>(bits, 7, 5, per_row);
            round_trip<gru_cell>(bits, 7, 5, per_row);
            round_trip<gru_cell>(bits, 1, 1, per_row); // 3 codes
        }
}

TEST_CASE("a recurrent layer whose fields lie is refused, though its checksum is right") {
    const auto refused = [](const char* part, std::size_t entry, std::int32_t value) {
        const std::string text = message_of([&] { (void)load_recurrent<lstm_cell>(lying(entry, value), "a"); });
        INFO(text);
        CHECK(text.find("corrupt load_recurrent: ") == 0);
        CHECK(text.find(part) != std::string::npos);
    };
    const auto bits = [](float v) { return std::bit_cast<std::int32_t>(v); };
    CHECK(message_of([&] { (void)load_recurrent<lstm_cell>(lying(0, 1), "a"); }) == "no error");
    CHECK(message_of([&] { (void)load_recurrent<lstm_cell>(lying(0, 2), "a"); }).find("version 2") !=
          std::string::npos);
    refused("3 gates, expected 4", 1, 3);
    refused("in_channels", 2, 0);
    refused("in_channels", 2, 1 << 30);
    refused("hidden", 3, -5);
    refused("30 bytes, expected 40", 2, 4);
    refused("weight_bits", 4, 9);
    refused("x.scale", 5, bits(0.0f));
    refused("zero_point", 6, 256);
    refused("h.scale", 7, bits(std::numeric_limits<float>::quiet_NaN()));
    refused("zero_point", 8, -1);
    refused("cell_scale", 9, bits(0.3f));
    CHECK(message_of([&] { (void)load_recurrent<gru_cell>(lying(0, 1), "a"); }).find("4 gates, expected 3") !=
          std::string::npos);
}

TEST_CASE("an invalid recurrent_spec is not saved, and no name twice") {
    recurrent_spec s = some_spec(4, 8, 3, 5);
    model_writer w("t");
    CHECK(message_of([&] { save_recurrent<gru_cell>(w, "a", s); }).find("save_recurrent: a: ") == 0);
    s.w_scales[2] = 0.0f;
    CHECK(message_of([&] { save_recurrent<lstm_cell>(w, "a", s); }).find("scale of the input weights") !=
          std::string::npos);
    CHECK(model_file::parse(w.to_bytes().span()).tensors().empty());
    s.w_scales[2] = 0.1f;
    save_recurrent<lstm_cell>(w, "a", s);
    CHECK(message_of([&] { save_recurrent<lstm_cell>(w, "a", s); }).find("a.w already") != std::string::npos);
}
