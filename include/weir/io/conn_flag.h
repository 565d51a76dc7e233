/* conn_flag.h: the state bits of a conn (conn.flags). Owners may look at CONN_OPEN, CONN_UNIX,
 * CONN_CARRIED, CONN_CLOSING and CONN_PARKED; the rest is between the files of io/. */
#ifndef WEIR_IO_CONN_FLAG_H
#define WEIR_IO_CONN_FLAG_H

enum conn_flag {
  CONN_LISTENER = 1 << 0,
  CONN_PAUSED = 1 << 1,    /* listener: does not accept */
  CONN_OPEN = 1 << 2,      /* connected and, with TLS, handshaken */
  CONN_READING = 1 << 3,   /* the owner wants on_data */
  CONN_WATCHED = 1 << 4,   /* a receive stays armed without reading */
  CONN_BULK = 1 << 5,      /* reads go into a borrowed 64 KiB buffer, after a poll */
  CONN_EOF = 1 << 6,       /* on_eof was called */
  CONN_WIRE_EOF = 1 << 7,  /* FIN came */
  CONN_FAILED = 1 << 8,    /* on_error was called */
  CONN_CLOSING = 1 << 9,   /* conn_close, conn_reset or conn_close_gently was called */
  CONN_DIRTY = 1 << 10,    /* in loop->dirty or loop->carriers */
  CONN_STARVED = 1 << 11,  /* in loop->starved */
  CONN_FIN = 1 << 12,      /* our FIN is to be sent behind the output (conn_finish) */
  CONN_FIN_SENT = 1 << 13, /* it was */
  CONN_SINGLE = 1 << 14,   /* receive single-shot: large bodies were seen here */
  CONN_UNIX = 1 << 15,
  CONN_SPLICING = 1 << 16,  /* a relay splices from here: it polls and reads itself */
  CONN_LINGER = 1 << 17,    /* drops what comes until EOF or the linger time (conn_close_gently) */
  CONN_REREAD = 1 << 18,    /* held bytes are due at the end of the turn */
  CONN_AGAIN = 1 << 19,     /* conn_read_start was called inside on_data */
  CONN_UNARMING = 1 << 20,  /* the receive is being cancelled */
  CONN_KICK = 1 << 21,      /* relay_in is to run at the end of the turn */
  CONN_NONBLOCK = 1 << 22,  /* O_NONBLOCK is on, for splice */
  CONN_SENT_DEAD = 1 << 23, /* a send failed; the error waits for what is still to be read */
  CONN_GONE = 1 << 24,      /* cancelled and closed; only completions are awaited */
  CONN_PEER_DONE = 1 << 25, /* the peer ended; the owner may not know yet (a relay did) */
  CONN_PARKED = 1 << 26,    /* in loop->parked: bytes came, and wait for an iobuf */
  CONN_QUIET = 1 << 27,     /* conn_quiet was true; quiet_at tells when */
  CONN_STOPPING = 1 << 28,  /* listener: conn_listen_stop was called */
  CONN_CARRIED = 1 << 29,   /* no socket: a stream of another conn (carried.h) */
  CONN_CARRIES = 1 << 30,   /* the other one: runs last in a turn, on_flush first */
};

#endif
