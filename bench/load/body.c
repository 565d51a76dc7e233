/* Message bodies that can be checked. See body.h.
 * The pattern is xorshift output: no two offsets below BODY_PERIOD look alike. Large bodies are
 * mostly discarded in the kernel (MSG_TRUNC), so that the generator is not the bottleneck; the
 * callers ask for every byte of a sample of them. */
#include "body.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { TAIL_CHECK = 64, DISCARD_MIN = 4096 };

static char pattern[BODY_PERIOD];
static char scratch[BODY_SCRATCH];

void body_init(void) {
    uint64_t x = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < BODY_PERIOD; i += sizeof x) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(&pattern[i], &x, sizeof x);
    }
}

char *body_scratch(void) {
    return scratch;
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

void message_finish(struct message *m, const char *nonce, uint64_t body_len) {
    memcpy(m->nonce, nonce, NONCE_LEN);
    m->body_len = body_len;
    m->body_off = 0;
    m->head_off = 0;
    if (m->head_len + body_len > MESSAGE_INLINE) {
        return;
    }
    size_t len = (size_t)body_len;
    memcpy(m->head + m->head_len, pattern, len);
    memcpy(m->head + m->head_len, nonce, min_size(len, NONCE_LEN));
    m->head_len += (uint32_t)len;
    m->body_len = 0;
}

int message_iov(const struct message *m, struct iovec iov[3]) {
    int count = 0;
    uint64_t off = m->body_off;
    if (m->head_off < m->head_len) {
        iov[count].iov_base = (char *)(uintptr_t)m->head + m->head_off;
        iov[count++].iov_len = m->head_len - m->head_off;
    }
    if (off < NONCE_LEN && off < m->body_len) {
        size_t len = min_size(NONCE_LEN, (size_t)m->body_len) - (size_t)off;
        iov[count].iov_base = (char *)(uintptr_t)m->nonce + off;
        iov[count++].iov_len = len;
        off += len;
    }
    if (off < m->body_len) {
        size_t at = (size_t)(off % BODY_PERIOD);
        iov[count].iov_base = pattern + at;
        iov[count++].iov_len = min_size(BODY_PERIOD - at, (size_t)(m->body_len - off));
    }
    return count;
}

void message_advance(struct message *m, size_t n) {
    size_t head = min_size(n, m->head_len - m->head_off);
    m->head_off += (uint32_t)head;
    m->body_off += n - head;
}

bool body_accept(struct body_check *b, const char *bytes, size_t n) {
    if (n > b->total - b->got) {
        return false;
    }
    while (n > 0 && b->got < NONCE_LEN) {
        if (*bytes != b->nonce[b->got]) {
            return false;
        }
        b->got++;
        bytes++;
        n--;
    }
    while (n > 0) {
        size_t at = (size_t)(b->got % BODY_PERIOD);
        size_t len = min_size(n, BODY_PERIOD - at);
        if (memcmp(bytes, pattern + at, len) != 0) {
            return false;
        }
        b->got += len;
        bytes += len;
        n -= len;
    }
    return true;
}

long body_receive(struct body_check *b, int fd) {
    size_t left = (size_t)(b->total - b->got);
    bool discard = !b->every_byte && b->got >= NONCE_LEN && left > TAIL_CHECK + DISCARD_MIN;
    ssize_t n;
    if (discard) {
        n = recv(fd, NULL, left - TAIL_CHECK, MSG_TRUNC);
    } else {
        n = recv(fd, scratch, min_size(left, b->got < NONCE_LEN ? DISCARD_MIN : BODY_SCRATCH), 0);
    }
    if (n <= 0) {
        return n == 0 ? 0 : -errno;
    }
    if (discard) {
        b->got += (uint64_t)n;
    } else if (!body_accept(b, scratch, (size_t)n)) {
        return -EBADMSG;
    }
    return n;
}
