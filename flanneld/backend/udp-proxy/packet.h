/* IP packets as bytes: numbers, checksums, addresses, time to live. */

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include "routes.h"

enum { TCP_FIN = 1, TCP_PSH = 8, TCP_ACK = 16 };

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void put16(uint8_t *at, size_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

/* The internet checksum's sum: of 16-bit numbers in the machine's order, so that the folded sum is stored as it is. */
static uint64_t sum(const uint8_t *data, size_t length) {
  uint64_t low = 0, high = 0, word;
  for (; length >= 8; data += 8, length -= 8) {
    memcpy(&word, data, 8);
    low += word & 0xffffffff;
    high += word >> 32;
  }
  word = 0;
  memcpy(&word, data, length);
  return low + high + (word & 0xffffffff) + (word >> 32);
}

static uint16_t fold(uint64_t total) {
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return (uint16_t)total;
}

static void put_sum(uint8_t *at, uint16_t folded) { memcpy(at, &folded, 2); }
static void put_checksum(uint8_t *at, uint64_t total) { put_sum(at, (uint16_t)~fold(total)); }

static bool is_ipv4(const uint8_t *packet) { return packet[0] >> 4 == 4; }
static size_t ipv4_header(const uint8_t *packet) { return (packet[0] & 15u) * 4u; }

/* A whole packet: everything else relies on the lengths in the IP header. */
static bool well_formed(const uint8_t *packet, size_t length) {
  if (length >= 20 && is_ipv4(packet))
    return ipv4_header(packet) >= 20 && ipv4_header(packet) <= length && get16(packet + 2) == length;
  return length >= 40 && packet[0] >> 4 == 6 && get16(packet + 4) + 40u == length;
}

static struct key source(const uint8_t *packet) {
  return is_ipv4(packet) ? ipv4_key(packet + 12, 0) : address_key(packet + 8, 0);
}

static struct key destination(const uint8_t *packet) {
  return is_ipv4(packet) ? ipv4_key(packet + 16, 0) : address_key(packet + 24, 0);
}

/* One hop less to live, with the IPv4 checksum changed by the difference (RFC 1624). False when there is none left. */
static bool lower_ttl(uint8_t *packet) {
  uint8_t *ttl = packet + (is_ipv4(packet) ? 8 : 7);
  if (*ttl <= 1) return false;
  if (is_ipv4(packet)) {
    uint32_t before = get16(packet + 8), after = before - 0x100;
    uint32_t total = (uint16_t)~get16(packet + 10) + (uint32_t)(uint16_t)~before + after;
    put16(packet + 10, (uint16_t)~fold(total));
  }
  --*ttl;
  return true;
}

/* The length after the IP header, and a header checksum that fits. */
static void finish_ip_header(uint8_t *packet, size_t length) {
  if (is_ipv4(packet)) {
    put16(packet + 2, length);
    put_sum(packet + 10, 0);
    put_checksum(packet + 10, sum(packet, ipv4_header(packet)));
  } else {
    put16(packet + 4, length - 40);
  }
}

/* What the checksum of a transport protocol begins with. */
static uint64_t pseudo_sum(const uint8_t *packet, uint8_t protocol, size_t length) {
  uint64_t addresses = is_ipv4(packet) ? sum(packet + 12, 8) : sum(packet + 8, 32);
  return addresses + htons(protocol) + htons((uint16_t)length);
}
