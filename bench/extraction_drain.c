// What libpq alone costs: every message of a COPY is taken and freed, as bml takes them. -1: the COPY ended.
#include <poll.h>

typedef int (*Get)(void* conn, char** message, int no_wait);
typedef void (*Free)(void* message);
typedef int (*Consume)(void* conn);

int take_all(void* conn, Get get, Free release, Consume consume, int socket) {
    int waiting = 0;
    for (;;) {
        char* message;
        const int n = get(conn, &message, 1);
        if (n > 0) {
            release(message);
            waiting = 0;
            continue;
        }
        if (n < 0) return n;
        if (waiting) {
            struct pollfd one = {socket, POLLIN, 0};
            poll(&one, 1, 5);
        }
        waiting = 1;
        if (consume(conn) != 1) return -2;
    }
}
