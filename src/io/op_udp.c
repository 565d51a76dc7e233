/* op_udp.c: datagrams over the ring: multishot recvmsg into provided buffers of their own group
 * (those of conns are too short), and sends from the same buffers, without a copy. All that a send
 * needs stands beside its buffer, so there are never more sends in flight than buffers. Sends do
 * not wait (MSG_DONTWAIT): a socket whose send buffer is full loses the datagram, as a router's
 * queue would, and order is kept. A buffer's pages are touched as far as datagrams reach: 64
 * buffers cost 256 KiB for DNS and 4 MiB for datagrams of the longest.
 *
 * GRO and GSO: where a sender or a card brings datagrams of one flow together, as QUIC's servers
 * do, the train goes through as one. A loop of recvmsg and sendmsg took 7 us of CPU for each
 * datagram of 1,200 bytes, 0.45 us in trains of 40 and 3.2 us in trains of 4; alone they cost the
 * same with it (6.5 to 6.9 us). Where a path takes no train (its segments are longer than the MTU)
 * that socket sends singly from then on, unless it is a listener's, whose clients are many. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/op_priv.h"
#include "weir/base/mem.h"

#define UDP_GROUP 1
#define NAME_ROOM 32u /* a sockaddr_in6, so that what stands behind is aligned */
#define TRAIN_ROOM CMSG_SPACE(sizeof(int)) /* UDP_GRO; UDP_SEGMENT is shorter */
#define CONTROL_ROOM (CMSG_SPACE(sizeof(struct in6_pktinfo)) + TRAIN_ROOM)
#define PAYLOAD_ROOM 65536u
#define HEAD_ROOM (sizeof(struct io_uring_recvmsg_out) + NAME_ROOM + CONTROL_ROOM)
/* Starts of buffers fall into different sets of the first cache. */
#define BUFFER_BYTES ((HEAD_ROOM + PAYLOAD_ROOM + 63) / 64 * 64)
#define BUFFER_STRIDE (BUFFER_BYTES + 64)
_Static_assert(NAME_ROOM >= sizeof(struct sockaddr_in6) && NAME_ROOM % 8 == 0, "room");

/* ring_send is what the kernel reads until a send is over. */
struct ring_send {
  struct msghdr message;
  struct iovec parts[2]; /* front, if there is one, and bytes */
  char front[UDP_FRONT_MAX];
  struct sockaddr_in6 to; /* or an IPv4 one */
  _Alignas(struct cmsghdr) char control[CONTROL_ROOM];
  size_t local_len;          /* of control: what stands before UDP_SEGMENT */
  uint32_t slot, generation; /* of the socket */
  uint16_t segment;          /* 0: no train */
};

struct ring_udp {
  struct io_uring_buf_ring *shared;
  char *base;
  bool used; /* since the last trim */
  struct ring_send sends[UDP_BUFFERS];
};

/* What the kernel leaves room for in a buffer. */
static struct msghdr room_listening = {.msg_namelen = NAME_ROOM, .msg_controllen = CONTROL_ROOM};
static struct msghdr room_connected = {.msg_controllen = TRAIN_ROOM};

static struct msghdr *room_of(const struct udp *u) {
  return u->flags & UDP_LISTENS ? &room_listening : &room_connected;
}

static char *buffer_at(const struct ring_udp *r, uint32_t id) {
  return r->base + (size_t)id * BUFFER_STRIDE;
}

static void put(struct ring_udp *r, uint32_t id) {
  io_uring_buf_ring_add(r->shared, buffer_at(r, id), BUFFER_BYTES, (uint16_t)id,
                        io_uring_buf_ring_mask(UDP_BUFFERS), 0);
  io_uring_buf_ring_advance(r->shared, 1);
}

/* made gives what a loop needs for datagrams, at its first socket. */
static struct ring_udp *made(struct loop *loop) {
  struct ring_udp **at = ring_udp_of(loop);
  int rc;
  if (*at) return *at;
  struct ring_udp *r = *at = mem_alloc(sizeof *r);
  r->shared = io_uring_setup_buf_ring(ring_of(loop), UDP_BUFFERS, UDP_GROUP, 0, &rc);
  check(r->shared != NULL);
  r->base = mem_pages((size_t)UDP_BUFFERS * BUFFER_STRIDE);
  for (uint32_t id = 0; id < UDP_BUFFERS; id++) put(r, id);
  return r;
}

void ring_udp_free(struct loop *loop) {
  struct ring_udp *r = *ring_udp_of(loop);
  if (r == NULL) return;
  (void)io_uring_free_buf_ring(ring_of(loop), r->shared, UDP_BUFFERS, UDP_GROUP);
  mem_pages_free(r->base, (size_t)UDP_BUFFERS * BUFFER_STRIDE);
  mem_free(r);
  *ring_udp_of(loop) = NULL;
}

/* The kernel writes into buffers in io_uring_enter only, and none is out when nothing came. */
void ring_udp_trim(struct loop *loop) {
  struct ring_udp *r = *ring_udp_of(loop);
  if (r == NULL) return;
  if (!r->used && io_uring_cq_ready(ring_of(loop)) == 0)
    mem_pages_drop(r->base, (size_t)UDP_BUFFERS * BUFFER_STRIDE);
  r->used = false;
}

/* ---- sockets ---- */

static int ring_udp_connect(struct loop *loop, const struct addr *to) {
  (void)made(loop);
  int fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, &to->sa, to->len) == 0) return fd;
  int err = -errno;
  (void)close(fd);
  return err;
}

static void ring_udp_listen(struct loop *loop, int fd, bool any) {
  int on = 1, flags = fcntl(fd, F_GETFL);
  (void)made(loop);
  if (flags >= 0) (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  if (!any) return;
  (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

static void ring_udp_coalesce(struct loop *loop, struct udp *u, bool on) {
  (void)loop;
  int value = on;
  (void)setsockopt(u->fd, IPPROTO_UDP, UDP_GRO, &value, sizeof value);
}

static bool ring_udp_address(const struct loop *loop, const struct udp *u, struct addr *out) {
  (void)loop;
  struct sockaddr_in6 at;
  socklen_t len = sizeof at;
  if (getsockname(u->fd, (struct sockaddr *)&at, &len) != 0) return false;
  addr_from_sockaddr((struct sockaddr *)&at, len, out);
  return true;
}

/* A socket that is connected hears its peer alone, and leaves the kernel's choice among those that
 * share a port; this one is its own peer. What was queued stays (udp(7)). */
static bool ring_udp_retire(struct loop *loop, struct udp *u) {
  struct addr own;
  if (!ring_udp_address(loop, u, &own)) return false;
  if (u->flags & UDP_ANY && own.sa.sa_family == AF_INET)
    own.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else if (u->flags & UDP_ANY)
    own.in6.sin6_addr = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
  return connect(u->fd, &own.sa, own.len) == 0;
}

static bool ring_udp_empty(const struct loop *loop, const struct udp *u) {
  char byte;
  (void)loop;
  return recv(u->fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static bool is_loopback(const struct addr *a) {
  if (a->sa.sa_family == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
  return ntohl(a->in4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* Nothing is sent. To an own address one comes from that address itself; but in 127.0.0.0/8 from
 * 127.0.0.1. */
static bool ring_udp_is_here(const struct loop *loop, const struct addr *a) {
  struct addr own;
  struct udp u = {.fd = -1};
  if (is_loopback(a)) return true;
  u.fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (u.fd < 0) return false;
  bool known = connect(u.fd, &a->sa, a->len) == 0 && ring_udp_address(loop, &u, &own);
  (void)close(u.fd);
  if (!known) return false;
  if (a->sa.sa_family == AF_INET) return own.in4.sin_addr.s_addr == a->in4.sin_addr.s_addr;
  return memcmp(&own.in6.sin6_addr, &a->in6.sin6_addr, sizeof own.in6.sin6_addr) == 0;
}

/* ---- submissions ---- */

static void ring_udp_recv(struct loop *loop, struct udp *u) {
  struct io_uring_sqe *sqe = ring_sqe(loop);
  io_uring_prep_recvmsg_multishot(sqe, u->fd, room_of(u), 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = UDP_GROUP;
  sqe->user_data = ring_name(&u->head, RING_UDP_RECV);
}

static void ring_udp_cancel(struct loop *loop, struct udp *u) {
  struct io_uring_sqe *sqe = ring_sqe(loop);
  io_uring_prep_cancel64(sqe, ring_name(&u->head, RING_UDP_RECV), 0);
  sqe->user_data = ring_name(&u->head, RING_UDP_CANCEL);
}

static void ring_udp_close(struct loop *loop, struct udp *u) {
  struct io_uring_sqe *sqe = ring_sqe(loop);
  io_uring_prep_close(sqe, u->fd);
  sqe->user_data = ring_name(&u->head, RING_UDP_CLOSE);
  u->fd = -1;
}

/* put_local says from which of the own addresses it goes (ip(7), RFC 3542 section 6.2); a
 * link-local one is nothing without its interface. */
static void put_local(struct ring_send *s, const struct udp_local *from) {
  struct cmsghdr *c = (struct cmsghdr *)(void *)s->control;
  bool v4 = from->family == AF_INET;
  size_t size = v4 ? sizeof(struct in_pktinfo) : sizeof(struct in6_pktinfo);
  struct in_pktinfo info4 = {0};
  struct in6_pktinfo info6 = {0};
  memcpy(&info4.ipi_spec_dst, from->ip, sizeof info4.ipi_spec_dst);
  memcpy(&info6.ipi6_addr, from->ip, sizeof info6.ipi6_addr);
  if (IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr)) info6.ipi6_ifindex = from->interface;
  *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(size),
                        .cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6,
                        .cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO};
  memcpy(CMSG_DATA(c), v4 ? (void *)&info4 : (void *)&info6, size);
  s->message.msg_controllen = CMSG_SPACE(size);
}

/* put_train says how long each of the datagrams is that are sent as one. */
static void put_train(struct ring_send *s, uint16_t segment) {
  struct cmsghdr *c = (struct cmsghdr *)(void *)(s->control + s->local_len);
  *c = (struct cmsghdr){
      .cmsg_len = CMSG_LEN(sizeof segment), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT};
  memcpy(CMSG_DATA(c), &segment, sizeof segment);
  s->message.msg_controllen = s->local_len + CMSG_SPACE(sizeof segment);
}

/* send_singly sends a train that was refused as a whole, or would be. */
static void send_singly(struct loop *loop, struct ring_send *s) {
  struct iovec *bytes = &s->parts[1];
  struct span left = span_of(bytes->iov_base, bytes->iov_len);
  s->message.msg_controllen = s->local_len;
  while (left.len) {
    const struct udp *u = slab_find(&loop->udps, s->slot, s->generation);
    if (!u || u->fd < 0) return; /* closed meanwhile, maybe by the error of the last one */
    bytes->iov_base = (void *)(uintptr_t)left.ptr;
    bytes->iov_len = left.len < s->segment ? left.len : s->segment;
    left = span_from(left, bytes->iov_len);
    if (sendmsg(u->fd, &s->message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
      udp_send_failed(loop, s->slot, s->generation, -errno);
  }
}

static void put_to(struct ring_send *s, const struct addr *to, const struct udp_local *from) {
  memcpy(&s->to, &to->sa, to->len);
  if (to->sa.sa_family == AF_INET6 && from && IN6_IS_ADDR_LINKLOCAL(&s->to.sin6_addr))
    s->to.sin6_scope_id = from->interface;
  s->message.msg_name = &s->to;
  s->message.msg_namelen = to->len;
}

/* put_parts: what stands in front is not in the buffer. */
static void put_parts(struct ring_send *s, const struct udp_datagram *d) {
  size_t front = d->front.len;
  check(front <= sizeof s->front);
  if (front) memcpy(s->front, d->front.ptr, front);
  s->parts[0] = (struct iovec){.iov_base = s->front, .iov_len = front};
  s->parts[1] =
      (struct iovec){.iov_base = (void *)(uintptr_t)d->bytes.ptr, .iov_len = d->bytes.len};
  s->message = (struct msghdr){.msg_iov = front ? s->parts : s->parts + 1,
                               .msg_iovlen = front ? 2 : 1,
                               .msg_control = s->control};
}

static void ring_udp_send(struct loop *loop, struct udp *u, const struct udp_datagram *d,
                          const struct addr *to, const struct udp_local *from) {
  struct ring_send *s = &(*ring_udp_of(loop))->sends[d->buffer];
  s->slot = u->head.slot;
  s->generation = u->head.generation;
  s->segment = (uint16_t)d->segment;
  put_parts(s, d);
  if (to) put_to(s, to, from);
  if (from && from->family) put_local(s, from);
  s->local_len = s->message.msg_controllen;
  if (s->segment && (u->flags & UDP_SINGLY || d->front.len)) {
    send_singly(loop, s);
    put(*ring_udp_of(loop), d->buffer);
    return;
  }
  if (s->segment) put_train(s, s->segment);
  struct io_uring_sqe *sqe = ring_sqe(loop);
  io_uring_prep_sendmsg(sqe, u->fd, &s->message, MSG_DONTWAIT | MSG_NOSIGNAL);
  sqe->user_data = ((uint64_t)d->buffer << 8) | RING_UDP_SEND;
}

/* ---- completions ---- */

/* get_control reads how a datagram came: to which address, and whether it is a train. */
static void get_control(struct io_uring_recvmsg_out *out, struct msghdr *room,
                        struct udp_datagram *d) {
  struct udp_local *to = &d->to;
  for (struct cmsghdr *c = io_uring_recvmsg_cmsg_firsthdr(out, room); c;
       c = io_uring_recvmsg_cmsg_nexthdr(out, room, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      const struct in_pktinfo *info = (const void *)CMSG_DATA(c);
      to->family = AF_INET;
      to->interface = (uint32_t)info->ipi_ifindex;
      memcpy(to->ip, &info->ipi_spec_dst, sizeof info->ipi_spec_dst);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      const struct in6_pktinfo *info = (const void *)CMSG_DATA(c);
      to->family = AF_INET6;
      to->interface = info->ipi6_ifindex;
      memcpy(to->ip, &info->ipi6_addr, sizeof info->ipi6_addr);
    } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int segment;
      memcpy(&segment, CMSG_DATA(c), sizeof segment);
      if (segment > 0 && (size_t)segment < d->bytes.len) d->segment = (uint32_t)segment;
    }
  }
}

/* fill reads what the kernel put into a buffer; false: it is no whole datagram. */
static bool fill(const struct udp *u, char *buffer, int32_t len, struct udp_datagram *d) {
  struct msghdr *room = room_of(u);
  struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, len, room);
  if (out == NULL || out->flags & MSG_TRUNC) return false;
  d->bytes = span_of(io_uring_recvmsg_payload(out, room),
                     io_uring_recvmsg_payload_length(out, len, room));
  if (out->controllen) get_control(out, room, d);
  if (u->flags & UDP_LISTENS)
    addr_from_sockaddr(io_uring_recvmsg_name(out), out->namelen, &d->from);
  return true;
}

static void received(struct loop *loop, const struct io_uring_cqe *cqe) {
  struct ring_udp *r = *ring_udp_of(loop);
  uint32_t slot = ring_slot(cqe->user_data);
  uint32_t generation = ring_generation(cqe->user_data);
  bool provided = cqe->flags & IORING_CQE_F_BUFFER;
  struct udp_datagram d = {.buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT};
  struct udp_done done = {.res = cqe->res, .more = cqe->flags & IORING_CQE_F_MORE};
  const struct udp *u = slab_find(&loop->udps, slot, generation);
  check(u != NULL);
  if (provided && cqe->res >= 0 && fill(u, buffer_at(r, d.buffer), cqe->res, &d))
    done.datagram = &d;
  if (done.res >= 0 && !done.datagram) done.res = -EAGAIN; /* nothing that could be passed on */
  r->used = true;
  if (!udp_received(loop, slot, generation, &done) && provided) put(r, d.buffer);
}

/* no_train: the train was refused for being one: longer segments than the MTU, no checksums. */
static bool no_train(const struct ring_send *s, int32_t res) {
  return s->segment && (res == -EINVAL || res == -EMSGSIZE || res == -EIO);
}

static void sent(struct loop *loop, uint32_t id, int32_t res) {
  struct ring_udp *r = *ring_udp_of(loop);
  struct ring_send *s = &r->sends[id];
  struct udp *u = slab_find(&loop->udps, s->slot, s->generation);
  if (u && no_train(s, res)) {
    if (!(u->flags & UDP_LISTENS)) u->flags |= UDP_SINGLY; /* of many paths one tells nothing */
    send_singly(loop, s);
  } else if (res < 0) {
    udp_send_failed(loop, s->slot, s->generation, res);
  }
  put(r, id);
}

void ring_udp_handle(struct loop *loop, const struct io_uring_cqe *cqe) {
  uint64_t name = cqe->user_data;
  switch ((enum ring_udp_op)(name & 0xff)) {
    case RING_UDP_RECV: received(loop, cqe); return;
    case RING_UDP_SEND: sent(loop, (uint32_t)(name >> 8), cqe->res); return;
    case RING_UDP_CANCEL:
    case RING_UDP_CLOSE: udp_ended(loop, ring_slot(name), ring_generation(name)); return;
  }
}

const struct udp_ops ring_udp_ops = {
    .connect = ring_udp_connect,
    .listen = ring_udp_listen,
    .coalesce = ring_udp_coalesce,
    .recv = ring_udp_recv,
    .send = ring_udp_send,
    .cancel = ring_udp_cancel,
    .close = ring_udp_close,
    .settle = ring_submit,
    .address = ring_udp_address,
    .retire = ring_udp_retire,
    .empty = ring_udp_empty,
    .is_here = ring_udp_is_here,
};
