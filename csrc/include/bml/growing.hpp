// Memory that grows without being copied or doubled: pages are moved to a larger range of addresses, and
// pages nobody touched take no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bml {

class Growing {
    static constexpr std::size_t page = std::size_t{2} << 20;  // a huge one: what is touched is whole ones
    void* at_ = nullptr;
    std::size_t size_ = 0;

    static std::size_t whole(std::size_t bytes) { return (bytes + page - 1) / page * page; }

  public:
    Growing() = default;
    ~Growing() { free(at_, size_); }
    Growing(const Growing&) = delete;
    Growing& operator=(const Growing&) = delete;

    double* data() const { return static_cast<double*>(at_); }
    std::size_t size() const { return size_; }

    // The owner of the memory from now on frees it by ``free``.
    std::pair<void*, std::size_t> release() { return {std::exchange(at_, nullptr), std::exchange(size_, 0)}; }

#if defined(__linux__)
    // False: the system has not that much.
    bool grow(std::size_t bytes) {
        const std::size_t size = whole(bytes);
        if (size <= size_) return true;
        if (size < bytes) return false;
        // an address that is a multiple of the page: huge pages are moved whole
        void* range =
            mmap(nullptr, size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) return false;
        auto* begin = static_cast<char*>(range);
        const std::size_t skip = (page - reinterpret_cast<std::uintptr_t>(range) % page) % page;
        if (skip > 0) munmap(begin, skip);
        if (skip < page) munmap(begin + skip + size, page - skip);
        char* to = begin + skip;
        const int rights = PROT_READ | PROT_WRITE;
        void* got = at_ ? mremap(at_, size_, size, MREMAP_MAYMOVE | MREMAP_FIXED, to)
                        : mmap(to, size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (got == MAP_FAILED) return munmap(to, size), false;
        at_ = got, size_ = size;
        madvise(at_, size_, MADV_HUGEPAGE);  // only advice: what it says does not matter
        return true;
    }
    // Gives back all but ``bytes``.
    void shrink(std::size_t bytes) {
        const std::size_t size = whole(bytes);
        if (size < size_) free(static_cast<char*>(at_) + size, size_ - size);
        if (size == 0) at_ = nullptr;
        size_ = size < size_ ? size : size_;
    }
    static void free(void* at, std::size_t size) {
        if (size > 0) munmap(at, size);
    }
#else
    bool grow(std::size_t bytes) {
        if (bytes <= size_) return true;
        void* to = std::realloc(at_, bytes);
        if (!to) return false;
        at_ = to, size_ = bytes;
        return true;
    }
    void shrink(std::size_t) {}
    static void free(void* at, std::size_t) { std::free(at); }
#endif
};

}  // namespace bml
