/* ICMP and ICMPv6 errors about packets that can't go on. flannel's proxy sends "net unreachable"; "time exceeded" is
 * added, so that traceroute shows the tunnel. */

#pragma once

#include <time.h>

#include "packet.h"

enum error { UNREACHABLE, TIME_EXCEEDED };

static const struct {
  uint8_t ipv4, ipv6; /* the code is 0 in all */
} error_types[] = {[UNREACHABLE] = {3, 1}, [TIME_EXCEEDED] = {11, 3}};

/* Whom errors come from. */
static uint8_t ipv4_source[4], ipv6_source[16];
static bool has_ipv4_source, has_ipv6_source;

static bool error_allowed(void) {
  static time_t second;
  static uint32_t sent;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  if (now.tv_sec != second) sent = 0;
  second = now.tv_sec;
  counters[sent < ERRORS_PER_SECOND ? ICMP_SENT : ICMP_LIMITED]++;
  return sent < ERRORS_PER_SECOND && ++sent;
}

/* Never about an error, a later fragment, or what doesn't have one sender and one receiver (RFC 1122 3.2.2). */
static bool ipv4_deserves_error(const uint8_t *packet, size_t length) {
  size_t header = ipv4_header(packet);
  uint8_t type = header < length ? packet[header] : 3;
  bool error = packet[9] == IPPROTO_ICMP && (type == 3 || type == 4 || type == 5 || type == 11 || type == 12);
  bool later_fragment = get16(packet + 6) & 0x1fff;
  return !error && !later_fragment && packet[12] != 0 && packet[12] < 224 && packet[16] < 224;
}

/* The same (RFC 4443 2.4). An error could hide behind other headers, so only about what is plain to see. */
static bool ipv6_deserves_error(const uint8_t *packet, size_t length) {
  static const uint8_t unspecified[16];
  bool query = packet[6] == IPPROTO_ICMPV6 && length > 40 && packet[40] >= 128;
  bool plain = packet[6] == IPPROTO_TCP || packet[6] == IPPROTO_UDP || query;
  return plain && memcmp(packet + 8, unspecified, 16) != 0 && packet[8] != 0xff && packet[24] != 0xff;
}

static size_t ipv4_error(uint8_t *error, uint8_t type, const uint8_t *about, size_t length) {
  size_t quoted = ipv4_header(about) + 8;
  if (quoted > length) quoted = length;
  memset(error, 0, 28);
  error[0] = 0x45;
  error[8] = 64;
  error[9] = IPPROTO_ICMP;
  memcpy(error + 12, ipv4_source, 4);
  memcpy(error + 16, about + 12, 4);
  finish_ip_header(error, 28 + quoted);
  error[20] = type;
  memcpy(error + 28, about, quoted);
  put_checksum(error + 22, sum(error + 20, 8 + quoted));
  return 28 + quoted;
}

static size_t ipv6_error(uint8_t *error, uint8_t type, const uint8_t *about, size_t length) {
  size_t quoted = length < ERROR_BYTES - 48 ? length : ERROR_BYTES - 48;
  memset(error, 0, 48);
  error[0] = 0x60;
  error[6] = IPPROTO_ICMPV6;
  error[7] = 64;
  memcpy(error + 8, ipv6_source, 16);
  memcpy(error + 24, about + 8, 16);
  finish_ip_header(error, 48 + quoted);
  error[40] = type;
  memcpy(error + 48, about, quoted);
  put_checksum(error + 42, pseudo_sum(error, IPPROTO_ICMPV6, 8 + quoted) + sum(error + 40, 8 + quoted));
  return 48 + quoted;
}

/* Writes the error about a packet. Its length is 0 when there must be none. */
static size_t make_error(uint8_t *error, enum error kind, const uint8_t *about, size_t length) {
  bool ipv4 = is_ipv4(about);
  bool wanted = ipv4 ? has_ipv4_source && ipv4_deserves_error(about, length)
                     : has_ipv6_source && ipv6_deserves_error(about, length);
  if (!wanted || !error_allowed()) return 0;
  return ipv4 ? ipv4_error(error, error_types[kind].ipv4, about, length)
              : ipv6_error(error, error_types[kind].ipv6, about, length);
}
