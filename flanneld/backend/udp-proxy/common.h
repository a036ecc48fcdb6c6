/* What all parts of udp-proxy share: limits, counters, descriptors, and how it ends when it can't go on. */

#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
  CONTROL = 3, /* descriptor */
  NOBODY = 65534,
  MAX_ROUTES = 16384,
  MAX_PACKET = 65535,
  READS = 64,                   /* from the device in one turn */
  READ_BYTES = 4 * 65536,       /* in one turn */
  RECEIVES = 16,                /* from peers in one turn; each may be many datagrams */
  BURSTS = 64,                  /* sends in one turn */
  BURST_SEGMENTS = 64,          /* datagrams in one send: the kernel's limit */
  BURST_BYTES = 65535 - 40 - 8, /* in one send, less the underlay's headers */
  VECTORS = 1024,               /* of all sends in one turn */
  HEADERS = 512,                /* of segments in one turn */
  BEFORE_PACKET = 16,           /* bytes, of which the last are the device's header */
  HEADER_BYTES = 256,
  MERGED_SEGMENTS = 64,
  ERROR_BYTES = 1280, /* of an ICMP error: what passes everywhere */
  ERRORS_PER_SECOND = 1000,
  SOCKET_BYTES = 4 << 20,
  WINDOW_NS = 1000000,
  BUSY_NS = 10000, /* packets that come closer than this, on average over a window, hold turns apart */
  PAUSE_NS = 50000, /* between these */
};

/* The order is that of an answer on control. */
enum counter {
  SENT_PACKETS, /* to peers */
  SENT_BYTES,
  DELIVERED_PACKETS, /* from peers to the device */
  DELIVERED_BYTES,
  OUT_MALFORMED,  /* dropped on the way to peers (a large packet counts once): not a whole IP packet */
  OUT_NO_ROUTE,   /* no network holds its destination */
  OUT_TTL,        /* its time to live is over */
  OUT_FAILED,     /* the underlay refused it */
  IN_NOT_A_PEER,  /* dropped on the way from peers: the sender is nobody's next hop */
  IN_MALFORMED,   /* not a whole IP packet */
  IN_TTL,         /* its time to live is over */
  IN_FAILED,      /* the device refused it */
  ICMP_SENT,      /* errors */
  ICMP_LIMITED,   /* errors that were not sent: too many in this second */
  ROUTES,         /* in force */
  ROUTES_REFUSED, /* SETs that found the table full */
  COUNTERS
};

static uint64_t counters[COUNTERS];
static int tun, udp;
static sa_family_t underlay;

static _Noreturn void die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void die(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("udp-proxy: ", stderr);
  vfprintf(stderr, format, arguments);
  fputs("\n", stderr);
  va_end(arguments);
  exit(status);
}
