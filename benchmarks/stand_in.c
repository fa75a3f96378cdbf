/* A server that answers every POST with a body prepared beforehand, chosen by the first letter
 * group of the path, and costs so little that the client on the other core is what is measured.
 *
 *   stand_in NAME=FILE [NAME=FILE ...]
 *
 * answers POST /NAME/anything with the bytes of FILE. Prints its port; ends when standard input
 * does. It reads the request to its last byte and looks at nothing but path and length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_FILES = 16, MOST_CONNECTIONS = 4096, FIRST_ROOM = 1 << 16, EVENTS = 256 };

typedef struct { char *name; size_t name_length; char *bytes; size_t length; } Answer;
typedef struct { char *in; size_t room, filled; const char *out; size_t left; } Connection;

static Answer answers[MOST_FILES];
static int answer_count;
static Connection connections[MOST_CONNECTIONS];

static void fail(const char *what) { perror(what); exit(1); }

static void load(Answer *answer, char *told) {
    char *equals = strchr(told, '=');
    if (!equals) { fprintf(stderr, "NAME=FILE wanted, got %s\n", told); exit(2); }
    *equals = 0;
    FILE *file = fopen(equals + 1, "rb");
    if (!file) fail(equals + 1);
    fseek(file, 0, SEEK_END);
    size_t body = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(body + 256);
    int head = sprintf(bytes, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                              "Content-Length: %zu\r\n\r\n", body);
    if (fread(bytes + head, 1, body, file) != body) fail(equals + 1);
    fclose(file);
    *answer = (Answer){told, strlen(told), bytes, body + (size_t)head};
}

static void end(int socket) {
    free(connections[socket].in);
    connections[socket] = (Connection){0};
    close(socket);
}

/* Send what is left; 0: the connection ended. */
static int push(int socket) {
    Connection *c = &connections[socket];
    while (c->left) {
        ssize_t sent = send(socket, c->out, c->left, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN || errno == EINTR;
        c->out += sent;
        c->left -= (size_t)sent;
    }
    return 1;
}

/* Answer one whole request if there is one; its length, 0: not yet, -1: not understood. */
static ssize_t take(Connection *c) {
    char *stop = memmem(c->in, c->filled, "\r\n\r\n", 4);
    if (!stop) return 0;
    size_t head = (size_t)(stop - c->in) + 4;
    *stop = 0;
    char *told = strcasestr(c->in, "\r\nContent-Length:");
    size_t whole = head + (told ? strtoull(told + 17, NULL, 10) : 0);
    char *path = strstr(c->in, " /");
    const Answer *found = NULL;
    for (int i = 0; path && i < answer_count; i++)
        if (!strncmp(path + 2, answers[i].name, answers[i].name_length) &&
            path[2 + answers[i].name_length] == '/')
            found = &answers[i];
    *stop = '\r';
    if (!found) return -1;
    if (c->filled < whole) return 0;
    c->out = found->bytes;
    c->left = found->length;
    return (ssize_t)whole;
}

/* Read what has come and answer it; 0: the connection ended. */
static int pull(int socket) {
    Connection *c = &connections[socket];
    for (;;) {
        if (c->room - c->filled < FIRST_ROOM / 2) {
            c->room = c->room ? c->room * 2 : FIRST_ROOM;
            if (!(c->in = realloc(c->in, c->room))) fail("realloc");
        }
        ssize_t got = recv(socket, c->in + c->filled, c->room - c->filled - 1, 0);
        if (got == 0) return 0;
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        c->filled += (size_t)got;
        c->in[c->filled] = 0;
        ssize_t used = c->left ? 0 : take(c);
        if (used < 0) return 0;
        if (used > 0) {
            memmove(c->in, c->in + used, c->filled - (size_t)used);
            c->filled -= (size_t)used;
            if (!push(socket)) return 0;
        }
    }
}

int main(int count, char **told) {
    for (int i = 1; i < count && answer_count < MOST_FILES; i++)
        load(&answers[answer_count++], told[i]);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    if (door < 0 || bind(door, (struct sockaddr *)&at, size) || listen(door, 512)) fail("listen");
    getsockname(door, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);

    int watch = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event told_of = {.events = EPOLLIN, .data.fd = door}, events[EVENTS];
    epoll_ctl(watch, EPOLL_CTL_ADD, door, &told_of);
    told_of.data.fd = 0;
    epoll_ctl(watch, EPOLL_CTL_ADD, 0, &told_of);
    for (;;) {
        int ready = epoll_wait(watch, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == 0) {
                char ignored[64];
                if (read(0, ignored, sizeof ignored) <= 0) return 0;
            } else if (fd == door) {
                int caller;
                while ((caller = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    if (caller >= MOST_CONNECTIONS) { close(caller); continue; }
                    setsockopt(caller, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct epoll_event both = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = caller};
                    epoll_ctl(watch, EPOLL_CTL_ADD, caller, &both);
                }
            } else if (!push(fd) || !pull(fd)) {
                end(fd);
            }
        }
    }
}
