"""The rows of the comparison: what is asked of each proxy and what weir must reach.

`must` is weir's figure over the best peer's (or over `ref`), as issues 2, 4 and 5 and FLOOR.md
set it; None is a row without a goal. `floor` holds the arguments of bench-floor for the row, None
where a bare forwarder means nothing (TLS). Memory rows have their goal in bytes.
"""

from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB
IDLE_CONNECTIONS = 9000
POSTGRES = ("postgres", "initdb", "pg_isready", "pgbench")

MESSAGE = ["--engine", "uring"]
SPLICE = ["--engine", "splice"]


@dataclass(frozen=True)
class H2:
    """What h2load asks for in a row of HTTP/2."""
    connections: int
    streams: int                      # of each connection, at a time
    rate: int                         # requests of a run, for each of its --seconds
    get: int = 128
    post: int = 0


@dataclass(frozen=True)
class Redis:
    """What redis-benchmark asks of a real Redis in a row of TCP."""
    connections: int
    requests: int                     # of a run, for each of its --seconds


@dataclass(frozen=True)
class Pgbench:
    """What pgbench asks of a real PostgreSQL in a row of TCP."""
    connections: int
    transactions: int                 # of a run, for each of its --seconds
    mode: str                         # of the queries: simple, prepared


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    load: list = field(default_factory=list)
    unit: str = "us"                  # us: CPU per request; s/GiB: CPU per GiB of body
    must: float | None = None
    ref: str = "best"                 # whose figure `must` is a share of: best, or a peer's name
    musts: tuple = ()                 # further (peer, must), all to be reached
    floor: list | None = None
    floor_must: float | None = None   # weir over the floor
    tail_must: float | None = None    # weir's p99 and p99.9 over the peers' best
    tls: bool = False
    warmup_ms: int = 300
    resumed: float | None = None      # share of handshakes that must have been resumed
    h2: H2 | None = None              # HTTP/2 over TLS by h2load
    h2o: bool = False                 # h2o is a peer; it is in every row of HTTP/2
    tcp: bool = False                 # connections passed on unread: nginx stream, mode tcp
    redis: Redis | None = None        # redis-server and redis-benchmark instead of bench-load
    pgbench: Pgbench | None = None    # postgres and pgbench instead of bench-load

    @property
    def needs(self):
        """Programs without which the row is left out."""
        return ((("h2load",) if self.h2 else ())
                + (("redis-server", "redis-benchmark") if self.redis else ())
                + (POSTGRES if self.pgbench else ()))


def keepalive(connections):
    return ["--connections", str(connections), "--opening", "128"]


def bulk(get=16, post=0, connections=16):
    return ["--connections", str(connections), "--get", str(get), "--post", str(post)]


CPU_ROWS = [
    Row("h1-64", "h1 GET 128 B, 64 connections", keepalive(64),
        must=0.80, floor=MESSAGE, floor_must=1.15),
    Row("h1-1000", "h1 GET 128 B, 1,000 connections", keepalive(1000), must=0.75, floor=MESSAGE),
    Row("h1-9000", "h1 GET 128 B, 9,000 connections", keepalive(9000), must=0.60, floor=MESSAGE,
        warmup_ms=2000),
    Row("rate-8000", "h1 GET 128 B, fixed 8,000 req/s", keepalive(64) + ["--rate", "8000"],
        must=0.80, tail_must=1.0, floor=MESSAGE),
    Row("fresh", "new connection per request", ["--connections", "64", "--fresh"],
        must=0.80, floor=MESSAGE + ["--defer"]),
    Row("get-64k", "GET 64 KiB", bulk(get=64 * KIB), "s/GiB", must=0.60, floor=SPLICE),
    Row("get-1m", "GET 1 MiB", bulk(get=MIB), "s/GiB", must=0.55, floor=SPLICE),
    Row("post-1m", "POST 1 MiB", bulk(post=MIB), "s/GiB", must=0.40,
        floor=SPLICE + ["--splice-up"]),
    Row("tls-64", "TLS 1.3 keepalive GET 128 B", keepalive(64) + ["--tls"], must=0.75, tls=True),
    Row("tls-full", "TLS full handshake + 1 request", ["--connections", "16", "--fresh", "--tls"],
        must=0.75, ref="nginx", musts=(("h2o", 1.0),), tls=True, h2o=True, resumed=0.0),
    Row("tls-resumed", "TLS resumed + 1 request",
        ["--connections", "16", "--fresh", "--tls", "--resume"],
        must=0.75, ref="nginx", musts=(("h2o", 0.90),), tls=True, h2o=True, resumed=1.0),
    Row("tls-1m", "TLS GET 1 MiB", bulk(get=MIB) + ["--tls"], "s/GiB",
        must=0.80, ref="nginx", tls=True),
    Row("h2-100", "h2 GET 128 B, 8 x 100 streams", h2=H2(8, 100, 40000), must=0.75, tls=True),
    Row("h2-64", "h2 GET 128 B, 64 x 1 stream", h2=H2(64, 1, 20000), must=0.85, tls=True),
    Row("h2-get-64k", "h2 GET 64 KiB, 8 x 10 streams", unit="s/GiB",
        h2=H2(8, 10, 4000, get=64 * KIB), tls=True),
    Row("h2-post-64k", "h2 POST 64 KiB, 8 x 10 streams", unit="s/GiB",
        h2=H2(8, 10, 3000, get=16, post=64 * KIB), tls=True),
    Row("tcp-echo", "TCP: 128 B back and forth, 64 conns", keepalive(64), must=0.98, tcp=True),
    Row("tcp-redis", "TCP: redis-benchmark GET, 50 conns", redis=Redis(50, 60000), must=0.98,
        tcp=True),
    Row("tcp-pgbench", "TCP: pgbench -S simple, 50 conns",
        pgbench=Pgbench(50, 8000, "simple"), must=0.98, tcp=True),
    Row("tcp-pg-prep", "TCP: pgbench -S prepared, 50 conns",
        pgbench=Pgbench(50, 12000, "prepared"), must=0.98, tcp=True),
    Row("tcp-bulk", "TCP: 4 MiB down, 8 conns", bulk(get=4 * MIB, connections=8), "s/GiB",
        must=0.70, tcp=True),
    Row("tcp-bulk-up", "TCP: 4 MiB up, 8 conns", bulk(post=4 * MIB, connections=8), "s/GiB",
        must=0.70, tcp=True),
]


@dataclass(frozen=True)
class MemoryRow:
    name: str
    title: str
    must: float | None       # bytes
    kind: str                # start, idle, active
    tls: bool = False
    connections: int = IDLE_CONNECTIONS
    h2: bool = False
    h2o: bool = False
    needs: tuple = ()


MEMORY_ROWS = [
    MemoryRow("mem-start", "at start, 2 workers, PSS bytes", 6 * MIB, "start"),
    MemoryRow("mem-idle", "idle plain connection of 9,000, bytes", 1024, "idle"),
    MemoryRow("mem-idle-tls", "idle TLS connection of 9,000, bytes", 6 * KIB, "idle", tls=True,
              h2o=True),
    MemoryRow("mem-idle-h2", "idle h2 connection of 9,000, bytes", None, "idle", tls=True,
              h2=True),
    MemoryRow("mem-active", "active plain connection of 9,000, bytes", 4 * KIB, "active"),
]

CALIBRATION = "h1-64"      # the row whose floor over nginx says whether the bench can be believed
CALIBRATION_MAX = 0.75
