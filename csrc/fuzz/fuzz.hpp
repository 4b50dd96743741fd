// What the fuzz targets share: arguments made of bytes, and a check that stops the fuzzer.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

namespace fuzz {

using std::int64_t;
template <class T>
using Vec = std::vector<T>;  // exactly what a kernel may touch, so that the sanitizer sees a byte too many

#define REQUIRE(condition) ::fuzz::require((condition), #condition, __FILE__, __LINE__)
inline void require(bool ok, const char* what, const char* file, int line) {
    if (ok) return;
    std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    std::abort();
}

// The same value and the same zero; any NaN is NaN.
template <class T>
bool same(T a, T b) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return a == b && std::signbit(a) == std::signbit(b);
}

template <class T>
bool same(const Vec<T>& a, const Vec<T>& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (!same(a[i], b[i])) return false;
    return true;
}

inline std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}

    int64_t number(int64_t least, int64_t most) {
        return bytes_.ConsumeIntegralInRange<int64_t>(least, most);
    }
    bool flag() { return bytes_.ConsumeBool(); }
    int threads() { return static_cast<int>(number(1, 3)); }

    // Mostly few and near, so that they meet; now and then at the ends of the type.
    int64_t time() {
        constexpr int64_t lowest = std::numeric_limits<int64_t>::min();
        const int64_t kind = number(0, 15);
        if (kind < 12) return number(-8, 24);
        if (kind < 14) return kind == 12 ? lowest + number(0, 2) : -(lowest + 1) - number(0, 2);
        return bytes_.ConsumeIntegral<int64_t>();
    }
    Vec<int64_t> times(int64_t n) {
        Vec<int64_t> out;
        for (int64_t i = 0; i < n; ++i) out.push_back(time());
        return out;
    }

    template <class T>
    T value() {
        using Limits = std::numeric_limits<T>;
        const T special[] = {T{0},
                             T{1},
                             T{2},
                             static_cast<T>(0.1),
                             static_cast<T>(65000.01),
                             static_cast<T>(65000.02),
                             Limits::quiet_NaN(),
                             -T{0},
                             -T{1},
                             Limits::infinity(),
                             -Limits::infinity(),
                             Limits::denorm_min(),
                             Limits::max()};
        return special[number(0, tame_ ? 6 : 12)];
    }
    template <class T>
    Vec<T> values(int64_t n) {
        Vec<T> out;
        for (int64_t i = 0; i < n; ++i) out.push_back(value<T>());
        return out;
    }
    void only_tame() { tame_ = true; }

  private:
    FuzzedDataProvider bytes_;
    bool tame_ = false;  // prices and quantities as they are: nothing negative, infinite or denormal
};

}  // namespace fuzz
