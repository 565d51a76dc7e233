/* udp_priv.h: what an implementation of the loop does for datagram sockets (op_udp.c, sim_udp.c),
 * and the upcalls it makes to udp.c. */
#ifndef WEIR_IO_UDP_PRIV_H
#define WEIR_IO_UDP_PRIV_H

#include "weir/io/udp.h"

enum udp_flag {
  UDP_LISTENS = 1, /* else it is connected */
  UDP_ANY = 2,     /* bound to all addresses: which one a datagram came to has to be known */
  UDP_ARMED = 4,   /* a receive is with the kernel */
  UDP_GONE = 8,
  UDP_SINGLY = 16, /* the path from here takes no trains (its segments are too long for it) */
};

/* udp_ops: none blocks. Each of recv, cancel and close ends by udp_received or udp_ended. */
struct udp_ops {
  /* connect gives a connected descriptor, or -errno. */
  int (*connect)(struct loop *loop, const struct addr *to);
  /* listen prepares a bound descriptor; any: what was bound stands for all addresses. */
  void (*listen)(struct loop *loop, int fd, bool any);
  void (*coalesce)(struct loop *loop, struct udp *u, bool on);
  void (*recv)(struct loop *loop, struct udp *u); /* multishot */
  /* send takes the datagram's buffer, and gives it back when it was sent. */
  void (*send)(struct loop *loop, struct udp *u, const struct udp_datagram *d,
               const struct addr *to, const struct udp_local *from);
  void (*cancel)(struct loop *loop, struct udp *u); /* the receive */
  void (*close)(struct loop *loop, struct udp *u);
  void (*settle)(struct loop *loop); /* closes are not only asked for, but done */
  bool (*address)(const struct loop *loop, const struct udp *u, struct addr *out);
  bool (*retire)(struct loop *loop, struct udp *u);
  bool (*empty)(const struct loop *loop, const struct udp *u);
  bool (*is_here)(const struct loop *loop, const struct addr *a);
};

/* udp_done is what a receive brought. */
struct udp_done {
  int32_t res; /* -errno; else *datagram came */
  bool more;   /* it stays armed */
  struct udp_datagram *datagram;
};
/* udp_received: true when the datagram was passed on, and its buffer is out. */
bool udp_received(struct loop *loop, uint32_t slot, uint32_t generation,
                  const struct udp_done *done);
/* udp_ended: a cancel or close did. udp_sent: a send failed. */
void udp_ended(struct loop *loop, uint32_t slot, uint32_t generation);
void udp_send_failed(struct loop *loop, uint32_t slot, uint32_t generation, int err);

/* loop.c: udp_rearm arms the receives that found no buffer; udp_abandon closes what is left. */
void udp_init(struct loop *loop, uint32_t limit);
void udp_rearm(struct loop *loop);
void udp_abandon(struct loop *loop);
void udp_fini(struct loop *loop);

#endif
