// Rows out of libpq, by the entry points of the very library that made the connection, while the socket gives
// any.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bml/pg_stream.hpp"
#include "bml/pg_wire.hpp"

namespace bml::pg {

struct Libpq {
    int (*get_copy_data)(void* conn, char** message, int no_wait);
    void (*free_memory)(void* message);
    int (*consume_input)(void* conn);
    int (*is_busy)(void* conn);
    int (*n_rows)(const void* result);
    int (*n_fields)(const void* result);
    char* (*value)(const void* result, int row, int field);
    int (*length)(const void* result, int row, int field);
    int (*is_null)(const void* result, int row, int field);
};

// From addresses in the order above.
inline Libpq libpq_at(const std::uintptr_t* address) {
    Libpq pq;
    static_assert(sizeof pq == 9 * sizeof *address);
    std::memcpy(&pq, address, sizeof pq);
    return pq;
}

// What a wait came to.
enum class Waited : std::int32_t {
    ready = 0,
    silent = 1,   // nothing came for the time given, or a signal did
    busy = 2,     // much came: time to look at signals
    broken = 3,   // libpq says what
    ended = 4,    // of COPY
    message = 5,  // of COPY, not wholly decoded: the caller takes it
};

struct Connection {
    const Libpq* pq = nullptr;
    void* conn = nullptr;
    int socket = -1;
    int wait_ms = 0;

    // libpq takes in what the socket has; if that is nothing, after waiting for more.
    Waited take_in(bool& is_waiting) const {
        if (is_waiting) {
            pollfd one{socket, POLLIN, 0};
            if (poll(&one, 1, wait_ms) <= 0) return Waited::silent;
        }
        is_waiting = true;  // unless this brings something; TLS may hold bytes that poll knows nothing of
        return pq->consume_input(conn) == 1 ? Waited::ready : Waited::broken;
    }

    // Until a result can be had without blocking.
    Waited result_ready() const {
        bool is_waiting = false;
        for (int i = 0; pq->is_busy(conn) != 0; ++i) {
            if (i == 4096) return Waited::busy;
            if (const Waited how = take_in(is_waiting); how != Waited::ready) return how;
        }
        return Waited::ready;
    }

    // Decodes messages of a COPY, at most some of them; ``message`` of ``size`` bytes, of which ``used`` are
    // done with, is the caller's to free. ``split``: the caller holds half a row, so the first message is for
    // it.
    Waited drain(CopyStream& stream, char*& message, std::size_t& size, std::size_t& used, bool split,
                 bool& any) const {
        constexpr int some = 1 << 16;
        bool is_waiting = false;
        any = false;
        for (int i = 0; i < some;) {
            const int got = pq->get_copy_data(conn, &message, 1);
            if (got == 0) {
                if (const Waited how = take_in(is_waiting); how != Waited::ready) return how;
                continue;
            }
            if (got < 0) return got == -1 ? Waited::ended : Waited::broken;
            is_waiting = false, any = true, size = static_cast<std::size_t>(got), ++i;
            used = 0;
            if (split ||
                stream.decode(reinterpret_cast<const std::uint8_t*>(message), size, used) != Code::more ||
                used < size)
                return Waited::message;
            pq->free_memory(message);
        }
        return Waited::busy;
    }
};

// The rows of a binary result from ``row`` on; ``row`` is then the first that was not taken.
inline Code take_result(const Libpq& pq, const void* result, CopyStream& stream, int& row) {
    if (pq.n_fields(result) != stream.layout.n_fields)
        return stream.fault.value = pq.n_fields(result), Code::bad_count;
    const int n_rows = pq.n_rows(result);
    for (; row < n_rows; ++row) {
        for (int i = 0; i < stream.layout.n_fields; ++i) {
            int length = pq.length(result, row, i);
            if (length == 0 && pq.is_null(result, row, i) != 0) length = -1;
            const auto* at = reinterpret_cast<const std::uint8_t*>(pq.value(result, row, i));
            if (const Code code = stream.field(i, at, length); code != Code::more) return code;
        }
        if (const Code code = stream.take(); code != Code::more) return code;
    }
    return Code::more;
}

}  // namespace bml::pg
