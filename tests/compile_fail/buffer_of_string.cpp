// EXPECT: notch::buffer holds plain data only: T must be trivially copyable
#include <string>

#include <notch/core/buffer.hpp>

notch::buffer<std::string> names;
