// float16 for a machine without the instruction: the two functions that the kernel text takes from outside.

#include <cmath>

float half_to_float(unsigned short bits) {
    const int exponent = (bits >> 10) & 0x1f;
    const int fraction = bits & 0x3ff;
    float magnitude;
    if (exponent == 0x1f) {
        magnitude = fraction != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        magnitude = std::ldexp(static_cast<float>(fraction | 0x400), exponent - 25);
    }
    return std::copysign(magnitude, (bits & 0x8000) != 0 ? -1.0f : 1.0f);
}

// To nearest, ties to even: nearbyint rounds so in the default mode, here on the scale of one unit in the last place.
unsigned short float_to_half(float value) {
    const int sign = std::signbit(value) ? 0x8000 : 0;
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) return static_cast<unsigned short>(sign | 0x7fff);
    if (magnitude >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00);
    int exponent = 0;
    std::frexp(magnitude, &exponent);  // magnitude = f * 2^exponent, f in [0.5, 1)
    const int unit = magnitude == 0.0f || exponent - 11 < -24 ? -24 : exponent - 11;
    const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -unit)));
    // Steps count from 0x400 up where the number is normal, and a carry moves into the exponent by itself.
    return static_cast<unsigned short>(sign | (steps + (unit + 24) * 0x400));
}

// For a test that goes through all values.
extern "C" void halves_to_floats(const unsigned short* halves, float* floats, int count) {
    for (int index = 0; index < count; ++index) floats[index] = half_to_float(halves[index]);
}

extern "C" void floats_to_halves(const float* floats, unsigned short* halves, int count) {
    for (int index = 0; index < count; ++index) halves[index] = float_to_half(floats[index]);
}
