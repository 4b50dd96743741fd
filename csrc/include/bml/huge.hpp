// Scratch of many megabytes: not cleared, on huge pages where the system has them, since page faults cost
// most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bml {

template <class T>
class Huge {
    static constexpr std::size_t page = std::size_t{2} << 20;
    T* at_ = nullptr;

  public:
    explicit Huge(std::size_t n) {
        const std::size_t bytes = (n * sizeof(T) / page + 1) * page;
        const bool is_small = bytes == page;  // a system call costs more than such a page
        at_ = static_cast<T*>(is_small ? std::malloc(n * sizeof(T) + 1) : std::aligned_alloc(page, bytes));
        if (!at_) throw std::bad_alloc();
#if defined(__linux__)
        if (!is_small) madvise(at_, bytes, MADV_HUGEPAGE);  // only advice: what it says does not matter
#endif
    }
    ~Huge() { std::free(at_); }
    Huge(const Huge&) = delete;
    Huge& operator=(const Huge&) = delete;

    T* data() const { return at_; }
    T& operator[](std::int64_t i) const { return at_[i]; }
};

}  // namespace bml
