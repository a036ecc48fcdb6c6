/* From peers to the device. UDP_GRO delivers many datagrams at once; TCP segments of one flow that follow each other,
 * and UDP datagrams of one flow and size, are written to the device as one large packet. */

#pragma once

#include "outbound.h"

/* --- merging ------------------------------------------------------------------------------------------------------ */

/* A TCP segment or UDP datagram that may be merged. */
struct segment {
  bool udp;
  size_t transport, head, payload; /* where TCP or UDP begins and ends, and the bytes behind it */
  uint32_t sequence;               /* TCP */
  bool push;                       /* TCP */
};

/* Whether the device's kernel cuts large UDP packets (Linux 6.2). */
static bool merges_udp;

/* linux/virtio_net.h: VIRTIO_NET_HDR_GSO_UDP_L4, newer than Debian 12's headers. */
enum { GSO_UDP = 5 };

/* What is written next: one packet, or one with the payloads of those that follow it. */
static struct {
  struct iovec parts[1 + MERGED_SEGMENTS]; /* the first is for the device's header */
  uint8_t *packet;
  size_t length;
  uint32_t count;
  bool open; /* more may follow */
  struct segment first;
  uint32_t next; /* sequence number */
} merged;

static bool right_checksum(const uint8_t *packet, size_t length, size_t transport, uint8_t protocol) {
  return fold(pseudo_sum(packet, protocol, length - transport) + sum(packet + transport, length - transport)) == 0xffff;
}

/* No flags but ACK and PSH, and data. */
static bool read_tcp(const uint8_t *packet, size_t length, size_t transport, struct segment *segment) {
  if (length < transport + 20) return false;
  const uint8_t *tcp = packet + transport;
  size_t head = transport + (tcp[12] >> 4) * 4u;
  if (head < transport + 20 || head >= length || (tcp[13] & ~TCP_PSH) != TCP_ACK) return false;
  *segment = (struct segment){false, transport, head, length - head, get32(tcp + 4), tcp[13] & TCP_PSH};
  return true;
}

/* Data, and a checksum: none (zero) is one that must not be made up. */
static bool read_udp(const uint8_t *packet, size_t length, size_t transport, struct segment *segment) {
  size_t head = transport + 8;
  if (length <= head || get16(packet + transport + 4) != length - transport || get16(packet + transport + 6) == 0)
    return false;
  *segment = (struct segment){.udp = true, .transport = transport, .head = head, .payload = length - head};
  return true;
}

/* Merging needs plain headers, DF (it will be cut again with other identifications), and a right checksum, because the
 * kernel doesn't look at those of a large packet's parts. */
static bool read_segment(const uint8_t *packet, size_t length, struct segment *segment) {
  bool ipv4 = is_ipv4(packet);
  if (ipv4 && (packet[0] != 0x45 || get16(packet + 6) != 0x4000)) return false;
  uint8_t protocol = packet[ipv4 ? 9 : 6];
  size_t transport = ipv4 ? 20 : 40;
  bool readable = (protocol == IPPROTO_TCP && read_tcp(packet, length, transport, segment)) ||
                  (protocol == IPPROTO_UDP && merges_udp && read_udp(packet, length, transport, segment));
  return readable && right_checksum(packet, length, transport, protocol);
}

/* Everything equal but length, identification, sequence number, PSH and checksums. */
static bool same_headers(const uint8_t *a, const uint8_t *b, const struct segment *segment) {
  size_t transport = segment->transport;
  bool ip = transport == 20 ? !memcmp(a, b, 2) && !memcmp(a + 6, b + 6, 4) && !memcmp(a + 12, b + 12, 8)
                            : !memcmp(a, b, 4) && !memcmp(a + 6, b + 6, 34);
  a += transport;
  b += transport;
  bool ports = ip && !memcmp(a, b, 4);
  return segment->udp ? ports
                      : ports && !memcmp(a + 8, b + 8, 5) && !memcmp(a + 14, b + 14, 2) &&
                            !memcmp(a + 18, b + 18, segment->head - transport - 18);
}

static bool follows(const uint8_t *packet, const struct segment *segment) {
  const struct segment *first = &merged.first;
  return merged.count > 0 && merged.open && merged.count < MERGED_SEGMENTS && segment->sequence == merged.next &&
         segment->payload <= first->payload && merged.length + segment->payload <= MAX_PACKET &&
         segment->transport == first->transport && segment->head == first->head && segment->udp == first->udp &&
         same_headers(merged.packet, packet, first);
}

static void append(uint8_t *packet, const struct segment *segment) {
  merged.parts[++merged.count] = (struct iovec){packet + segment->head, segment->payload};
  merged.length += segment->payload;
  if (!segment->udp) merged.next += (uint32_t)segment->payload;
  merged.open = segment->payload == merged.first.payload && !segment->push;
  if (segment->push) merged.packet[segment->transport + 13] |= TCP_PSH;
}

/* Makes the first packet's headers those of the whole. The checksum is the pseudo header's: the kernel goes on. */
static void write_large_headers(struct virtio_net_hdr *header) {
  const struct segment *first = &merged.first;
  uint8_t *packet = merged.packet, *transport = packet + first->transport;
  size_t length = merged.length - first->transport, field = first->udp ? 6 : 16;
  uint16_t pseudo = fold(pseudo_sum(packet, first->udp ? IPPROTO_UDP : IPPROTO_TCP, length));
  finish_ip_header(packet, merged.length);
  if (first->udp) put16(transport + 4, length);
  put_sum(transport + field, pseudo);
  header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  header->gso_type = first->udp         ? GSO_UDP
                     : is_ipv4(packet) ? VIRTIO_NET_HDR_GSO_TCPV4
                                       : VIRTIO_NET_HDR_GSO_TCPV6;
  header->hdr_len = (uint16_t)first->head;
  header->gso_size = (uint16_t)first->payload;
  header->csum_start = (uint16_t)first->transport;
  header->csum_offset = (uint16_t)field;
}

static void write_merged(void) {
  if (merged.count == 0) return;
  struct virtio_net_hdr header = {0};
  if (merged.count > 1) write_large_headers(&header);
  merged.parts[0] = (struct iovec){&header, sizeof header};
  if (writev(tun, merged.parts, (int)merged.count + 1) < 0) {
    counters[IN_FAILED] += merged.count;
  } else {
    counters[DELIVERED_PACKETS] += merged.count;
    counters[DELIVERED_BYTES] += merged.length + (merged.count - 1) * merged.first.head;
  }
  merged.count = 0;
}

/* Writes a packet to the device, now or with the next ones. Its bytes have to stay until write_merged. */
static void deliver(uint8_t *packet, size_t length) {
  struct segment segment = {0};
  bool mergeable = read_segment(packet, length, &segment);
  if (mergeable && follows(packet, &segment)) {
    append(packet, &segment);
    return;
  }
  write_merged();
  merged.parts[1] = (struct iovec){packet, length};
  merged.packet = packet;
  merged.length = length;
  merged.count = 1;
  merged.open = mergeable && !segment.push;
  merged.first = segment;
  merged.next = segment.udp ? 0 : segment.sequence + (uint32_t)segment.payload;
}

/* --- packets from peers ------------------------------------------------------------------------------------------- */

static void error_to_peer(enum error kind, const uint8_t *about, size_t length) {
  uint8_t error[ERROR_BYTES];
  struct key receiver = source(about);
  const struct key *hop = next_hop(&receiver);
  size_t error_length = hop ? make_error(error, kind, about, length) : 0;
  if (!error_length) return;
  enqueue(hop, &(struct iovec){error, error_length}, 1);
  flush();
}

static void inbound(uint8_t *packet, size_t length) {
  if (!well_formed(packet, length)) {
    counters[IN_MALFORMED]++;
  } else if (!lower_ttl(packet)) {
    counters[IN_TTL]++;
    error_to_peer(TIME_EXCEEDED, packet, length);
  } else {
    deliver(packet, length);
  }
}

static struct key sender(const struct sockaddr_storage *from) {
  if (underlay == AF_INET) {
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)from;
    return ipv4_key(&ipv4->sin_addr, ntohs(ipv4->sin_port));
  }
  const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)from;
  return address_key(&ipv6->sin6_addr, ntohs(ipv6->sin6_port));
}

/* The size of each of the datagrams that were received as one. */
static size_t datagram_size(struct msghdr *message, size_t length) {
  int size = 0;
  for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at))
    if (at->cmsg_level == SOL_UDP && at->cmsg_type == UDP_GRO) memcpy(&size, CMSG_DATA(at), sizeof size);
  return size > 0 ? (size_t)size : length;
}

static void received(struct msghdr *message, uint8_t *data, size_t length) {
  struct key from = sender(message->msg_name);
  size_t size = datagram_size(message, length);
  if (!is_peer(&from)) counters[IN_NOT_A_PEER] += length ? (length + size - 1) / size : 1;
  else if (length == 0) counters[IN_MALFORMED]++;
  else
    for (size_t at = 0; at < length; at += size) inbound(data + at, length - at < size ? length - at : size);
}

/* One turn. How much was received. */
static uint32_t from_peers(void) {
  static uint8_t buffers[RECEIVES][MAX_PACKET + 1] __attribute__((aligned(64)));
  struct sockaddr_storage senders[RECEIVES];
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  } controls[RECEIVES];
  struct iovec vectors[RECEIVES];
  struct mmsghdr messages[RECEIVES];
  for (int i = 0; i < RECEIVES; i++) {
    vectors[i] = (struct iovec){buffers[i], sizeof buffers[i]};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = &senders[i],
        .msg_namelen = sizeof senders[i],
        .msg_iov = &vectors[i],
        .msg_iovlen = 1,
        .msg_control = &controls[i],
        .msg_controllen = sizeof controls[i],
    };
  }
  int got = recvmmsg(udp, messages, RECEIVES, MSG_DONTWAIT, NULL);
  for (int i = 0; i < got; i++) received(&messages[i].msg_hdr, buffers[i], messages[i].msg_len);
  write_merged();
  return got > 0 ? (uint32_t)got : 0;
}
