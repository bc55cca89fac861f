// SPDX-License-Identifier: Apache-2.0
//
// Writes ONNX models of one node, in the protobuf wire format of onnx.proto: a message is a sequence
// of fields, each a key (number * 8 + kind) and a varint (kind 0), four bytes (5) or counted bytes (2).
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace bench::onnx {

/// TensorProto.DataType
enum class type : int { f32 = 1, u8 = 2, s8 = 3, s32 = 6 };

class message {
public:
    message& number(int field, std::int64_t value) {
        varint(static_cast<std::uint64_t>(field) << 3);
        varint(static_cast<std::uint64_t>(value));
        return *this;
    }
    message& bytes(int field, std::string_view value) {
        varint(static_cast<std::uint64_t>(field) << 3 | 2);
        varint(value.size());
        data.append(value);
        return *this;
    }
    message& add(int field, const message& m) { return bytes(field, m.data); }
    std::string data;

private:
    void varint(std::uint64_t v) {
        for (; v >= 128; v >>= 7) data.push_back(static_cast<char>(v | 128));
        data.push_back(static_cast<char>(v));
    }
};

using dims = std::vector<std::int64_t>;

/// A constant. Dimensions {} make a scalar.
template <class T> message constant(std::string_view name, type t, const dims& shape, const std::vector<T>& values) {
    message m;
    for (std::int64_t d : shape) m.number(1, d);
    m.number(2, static_cast<int>(t)).bytes(8, name);
    return m.bytes(9, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
}
inline message attribute(std::string_view name, std::int64_t value) {
    return message().bytes(1, name).number(3, value).number(20, 2);
}
inline message attribute(std::string_view name, const dims& values) {
    message m;
    m.bytes(1, name);
    for (std::int64_t v : values) m.number(8, v);
    return m.number(20, 7);
}
/// An input or output of the graph.
inline message value(std::string_view name, type t, const dims& shape) {
    message s;
    for (std::int64_t d : shape) s.add(1, message().number(1, d));
    return message().bytes(1, name).add(2, message().add(1, message().number(1, static_cast<int>(t)).add(2, s)));
}

/// A model with one node from x and constants to y.
struct model {
    std::string op, domain;
    std::vector<std::string> inputs; ///< in the order of the operator; "x" is the graph's input
    std::vector<message> constants, attributes;
    type x_type, y_type;
    dims x_shape, y_shape;

    std::string text() const {
        message node;
        for (const std::string& name : inputs) node.bytes(1, name);
        node.bytes(2, "y").bytes(4, op).bytes(7, domain);
        for (const message& a : attributes) node.add(5, a);
        message graph;
        graph.add(1, node).bytes(2, "g");
        for (const message& c : constants) graph.add(5, c);
        graph.add(11, value("x", x_type, x_shape)).add(12, value("y", y_type, y_shape));
        message m;
        m.number(1, 8).add(7, graph); // IR version 8
        m.add(8, message().bytes(1, "").number(2, 17)).add(8, message().bytes(1, "com.microsoft").number(2, 1));
        return m.data;
    }
};

} // namespace bench::onnx
