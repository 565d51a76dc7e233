/* addr.h: socket addresses as written in the config: "host:port", "[::1]:443", "unix:/path". Names
 * are not resolved here. */
#ifndef WEIR_BASE_ADDR_H
#define WEIR_BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "weir/base/buf.h"
#include "weir/base/span.h"

/* addr is any address that weir binds or connects to. */
struct addr {
  socklen_t len; /* bytes of sa in use; 0: none */
  union {
    struct sockaddr sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
  };
};

/* addr_net is a network "10.0.0.0/8" or "2001:db8::/32"; a plain address is a full-length one. */
struct addr_net {
  uint8_t family; /* AF_INET or AF_INET6 */
  uint8_t bits;
  uint8_t bytes[16];
};

enum addr_kind { ADDR_IP, ADDR_UNIX, ADDR_NAME, ADDR_FD, ADDR_BAD };

/* addr_split tells what text is and cuts it: host and port of "host:port" and "[v6]:port"
 * (brackets dropped), the path of "unix:/path", the name of "fd:name". Port 1 to 65535.
 * Host names: LDH labels of at most 63, whole at most 253. */
enum addr_kind addr_split(struct span text, struct span *host, uint16_t *port);
/* addr_parse makes a socket address of numeric "ip:port" and "unix:/path"; false otherwise. */
MUST_USE bool addr_parse(struct span text, struct addr *out);
/* addr_from_ip makes an address of a bare IPv4 or IPv6 literal (no brackets) and a port. */
MUST_USE bool addr_from_ip(struct span ip, uint16_t port, struct addr *out);
/* addr_from_sockaddr copies a kernel-given address. */
void addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *out);
/* addr_write appends "ip:port", "[v6]:port" or "unix:/path"; addr_write_ip only the IP ("unix:"
 * for unix sockets). IPv4-mapped IPv6 prints as IPv4. At most 64 and 46 bytes for IP. */
void addr_write(const struct addr *a, struct buf *out);
void addr_write_ip(const struct addr *a, struct buf *out);
bool addr_eq(const struct addr *a, const struct addr *b);
uint16_t addr_port(const struct addr *a);

/* addr_net_parse reads "10.0.0.0/8"; false when malformed or when host bits are set. A network of
 * IPv4-mapped addresses (::ffff:10.0.0.0/104) is the IPv4 one. */
MUST_USE bool addr_net_parse(struct span text, struct addr_net *out);
/* addr_net_has tells whether a is in net (IPv4-mapped IPv6 counts as IPv4). */
bool addr_net_has(const struct addr_net *net, const struct addr *a);
/* addr_prefix gives the network of bits4 (IPv4, and IPv4-mapped IPv6) or bits6 bits that holds a;
 * false when a is no IP address. Unused bytes are 0: equal networks are equal bytes. */
MUST_USE bool addr_prefix(const struct addr *a, uint8_t bits4, uint8_t bits6,
                          struct addr_net *out);

#endif
