/* Message bodies that can be checked: an endless pseudo-random pattern whose first bytes are
 * the request's nonce, so that a body cut, shifted or swapped with another's is seen.
 * Deliberately no HTTP here. Called by backend.c and client.c. */
#ifndef WEIR_BENCH_BODY_H
#define WEIR_BENCH_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    NONCE_LEN = 8,
    BODY_PERIOD = 1 << 20,   /* the pattern repeats after this many bytes */
    BODY_SCRATCH = 1 << 18,  /* bytes read at a time */
    MESSAGE_INLINE = 512,    /* head and body up to this go out as one buffer */
};

/* A message going out: head, then body_len bytes of body. Owned by its connection. */
struct message {
    uint64_t body_len;
    uint64_t body_off;  /* body bytes sent so far, those inside `head` not counted */
    uint32_t head_len;
    uint32_t head_off;
    char nonce[NONCE_LEN];
    char head[MESSAGE_INLINE];
};

/* A body coming in. */
struct body_check {
    uint64_t total;
    uint64_t got;
    char nonce[NONCE_LEN];
    bool every_byte;  /* compare all of it; else first and last bytes, the rest discarded */
};

/* body_init() fills the pattern; call once. */
void body_init(void);

/* body_scratch() is the one buffer of BODY_SCRATCH bytes that everyone receives into. */
char *body_scratch(void);

/* message_finish() sets the body of a message whose head is already in place. */
void message_finish(struct message *m, const char *nonce, uint64_t body_len);

/* message_iov() describes what is still to be sent, in at most 3 parts; 0 when all is sent. */
int message_iov(const struct message *m, struct iovec iov[3]);

/* message_advance() notes that n bytes went out. */
void message_advance(struct message *m, size_t n);

/* body_accept() compares the next n bytes of a body; false when they are not the right ones. */
bool body_accept(struct body_check *b, const char *bytes, size_t n);

/* body_receive() reads the next part of a body from a plain socket. Returns the byte count,
 * 0 at end of stream, -EBADMSG for wrong bytes, -errno. */
long body_receive(struct body_check *b, int fd);

#endif
