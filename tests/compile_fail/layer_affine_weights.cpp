// EXPECT: symmetric_quantizer
#include <notch/layers/train.hpp>

void make() { notch::conv2d_layer<notch::fake_quant<notch::affine<8>>> layer(1, 4, notch::window::square(1)); }
