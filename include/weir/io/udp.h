/* udp.h: datagram sockets on a loop: a listener's (bound, from anybody) and one towards an
 * endpoint (connected). A datagram comes in a buffer of the loop's and goes on from there without
 * a copy (udp_pass): the buffer is back when it was sent. There are UDP_BUFFERS of them for each
 * loop, and none of a socket: what comes faster than it goes waits in the socket's receive buffer,
 * where the kernel drops what is too much. Nothing is ever queued here. */
#ifndef WEIR_IO_UDP_H
#define WEIR_IO_UDP_H

#include "weir/base/slab.h"
#include "weir/io/loop.h"

/* UDP_BYTES_MAX is the longest payload (over IPv4; RFC 768, RFC 791). */
#define UDP_BYTES_MAX 65507u
#define UDP_BUFFERS 64u
/* UDP_FRONT_MAX is the longest udp_datagram.front. */
#define UDP_FRONT_MAX 192u

struct udp;

/* udp_local is the own address that a datagram came to, where a socket has more than one. */
struct udp_local {
  uint8_t family; /* AF_INET, AF_INET6; 0: the socket has but one */
  uint8_t ip[16];
  uint32_t interface;
};

/* udp_datagram is valid during on_datagram, its bytes too. With udp_coalesce it may be a train of
 * datagrams of one sender: each of `segment` bytes, the last one of what is left. */
struct udp_datagram {
  struct addr from; /* of a listener's: who sent it; else empty */
  struct udp_local to;
  struct span bytes; /* may be empty; its beginning may be cut off before it is passed on */
  struct span front; /* goes before them, with each of a train; copied by udp_pass */
  uint32_t segment;  /* 0: it is one */
  uint32_t buffer;   /* the loop's */
  bool passed;
};

/* udp_count is how many there are in one. */
static inline uint64_t udp_count(const struct udp_datagram *d) {
  return d->segment ? (d->bytes.len + d->segment - 1) / d->segment : 1;
}

struct udp_events {
  /* on_datagram may pass the datagram on, and close any socket, u too. */
  void (*on_datagram)(struct udp *u, struct udp_datagram *d);
  /* on_error: a receive or send of u failed: -ECONNREFUSED and its like are ICMP's answers to what
   * a connected socket sent; -EAGAIN, -EMSGSIZE, -EPERM, -ENOBUFS are of one datagram, which is
   * lost. u goes on unless it is closed. It may come from inside udp_pass. */
  void (*on_error)(struct udp *u, int err);
};

/* udp is one socket. */
struct udp {
  struct slab_head head;
  int fd;
  uint8_t flags;   /* udp_priv.h */
  uint8_t pending; /* completions that are still to come, but for sends */
  struct loop *loop;
  const struct udp_events *events;
  void *owner;
  struct list link; /* in loop->udp_starved */
  struct timer timer;
};

/* udp_listen receives on a bound socket, which the loop owns from now on. NULL: no slot. */
MUST_USE struct udp *udp_listen(struct loop *loop, int fd, const struct udp_events *events,
                                void *owner);
/* udp_connect makes a socket that sends to and hears from one address alone. NULL and *err: no
 * slot (-ENOMEM), no descriptor (-EMFILE), no port (-EAGAIN), or no way there. */
MUST_USE struct udp *udp_connect(struct loop *loop, const struct addr *to,
                                 const struct udp_events *events, void *owner, int *err);
/* udp_coalesce: u may give trains (UDP_GRO), where the network has brought some together. They are
 * passed on as they are (UDP_SEGMENT), and arrive as the datagrams that they were. */
void udp_coalesce(struct udp *u, bool on);
/* udp_pass sends what came, once: over a connected socket, or from a listener's to `to` and from
 * the address `from` (NULL: the only one). Whether that was possible on_error tells. */
void udp_pass(struct udp *u, struct udp_datagram *d, const struct addr *to,
              const struct udp_local *from);
/* udp_local_addr is the address that u is bound to. */
bool udp_local_addr(const struct udp *u, struct addr *out);
/* udp_retire: a listener's u gets no more of what is sent to its address, which other sockets have
 * too; what came before is still received. False: the kernel does not let it go. */
MUST_USE bool udp_retire(struct udp *u);
/* udp_empty: nothing that came to u waits to be received. */
bool udp_empty(const struct udp *u);
/* udp_is_here: a is an address of this machine, of whatever port. */
bool udp_is_here(struct loop *loop, const struct addr *a);
/* udp_close ends it; what was passed before is still sent. No event follows. */
void udp_close(struct udp *u);
/* udp_settle gives the descriptors of what was closed back at once: for who needs one now. */
void udp_settle(struct loop *loop);

#endif
