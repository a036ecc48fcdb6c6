/* From the device to peers. The device hands over TCP as large packets of up to 64 KB, which are cut into segments
 * here; only headers are copied. Datagrams of one size for one peer are queued as a burst and leave in one send
 * (UDP_SEGMENT). */

#pragma once

#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "icmp.h"

/* Datagrams of one size (the last may be shorter) for one peer. */
struct burst {
  struct key hop;
  union {
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
  } to;
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
  } control;
  struct iovec *vectors;
  uint32_t vectors_used, segments;
  size_t size, total;
};

static struct {
  struct burst bursts[BURSTS];
  struct iovec vectors[VECTORS];
  uint8_t headers[HEADERS][HEADER_BYTES];
  uint32_t bursts_used, vectors_used, headers_used;
} queue;

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void set_receiver(struct burst *burst, struct msghdr *message) {
  uint16_t port = htons((uint16_t)burst->hop.extra);
  bool ipv4 = underlay == AF_INET;
  if (ipv4) {
    burst->to.ipv4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
    burst->to.ipv4.sin_addr.s_addr = htonl((uint32_t)burst->hop.low);
  } else {
    uint64_t address[2] = {htobe64(burst->hop.high), htobe64(burst->hop.low)};
    burst->to.ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    memcpy(&burst->to.ipv6.sin6_addr, address, sizeof address);
  }
  message->msg_name = &burst->to;
  message->msg_namelen = ipv4 ? sizeof burst->to.ipv4 : sizeof burst->to.ipv6;
}

static void set_segment_size(struct burst *burst, struct msghdr *message) {
  uint16_t size = (uint16_t)burst->size;
  burst->control.header = (struct cmsghdr){CMSG_LEN(sizeof size), SOL_UDP, UDP_SEGMENT};
  memcpy(CMSG_DATA(&burst->control.header), &size, sizeof size);
  message->msg_control = &burst->control;
  message->msg_controllen = sizeof burst->control;
}

static struct msghdr burst_message(struct burst *burst) {
  struct msghdr message = {.msg_iov = burst->vectors, .msg_iovlen = burst->vectors_used};
  set_receiver(burst, &message);
  if (burst->segments > 1) set_segment_size(burst, &message);
  return message;
}

static void count_sent(uint32_t packets, size_t bytes) {
  counters[SENT_PACKETS] += packets;
  counters[SENT_BYTES] += bytes;
}

static void send_one_by_one(const struct burst *burst, struct msghdr message) {
  const struct iovec *end = burst->vectors + burst->vectors_used;
  message.msg_control = NULL;
  message.msg_controllen = 0;
  for (struct iovec *next = burst->vectors; next < end;) {
    size_t length = 0;
    message.msg_iov = next;
    while (next < end && length < burst->size) length += next++->iov_len;
    message.msg_iovlen = (size_t)(next - message.msg_iov);
    if (sendmsg(udp, &message, MSG_DONTWAIT) >= 0) count_sent(1, length);
    else counters[OUT_FAILED]++;
  }
}

/* Where the kernel can't cut a burst (a path with a smaller MTU, IPsec, no checksums) it can send the parts. */
static void send_failed(const struct burst *burst, const struct msghdr *message) {
  bool uncut = burst->segments > 1 && (errno == EINVAL || errno == EIO || errno == EMSGSIZE);
  if (uncut) send_one_by_one(burst, *message);
  else counters[OUT_FAILED] += burst->segments;
}

/* Sends what is queued. Nothing waits: what doesn't fit into the socket's buffer is dropped, as by any full queue. */
static void flush(void) {
  struct mmsghdr messages[BURSTS] = {0};
  for (uint32_t i = 0; i < queue.bursts_used; i++) messages[i].msg_hdr = burst_message(&queue.bursts[i]);
  for (uint32_t done = 0; done < queue.bursts_used;) {
    int sent = sendmmsg(udp, messages + done, queue.bursts_used - done, MSG_DONTWAIT);
    if (sent < 0) {
      send_failed(&queue.bursts[done], &messages[done].msg_hdr);
      done++;
    }
    for (; sent > 0; sent--, done++) count_sent(queue.bursts[done].segments, queue.bursts[done].total);
  }
  queue.bursts_used = queue.vectors_used = queue.headers_used = 0;
}

/* --- queueing ----------------------------------------------------------------------------------------------------- */

/* Room for one more datagram of any kind. */
static void make_room(void) {
  if (queue.bursts_used == BURSTS || queue.vectors_used + 2 > VECTORS || queue.headers_used == HEADERS) flush();
}

static bool fits(const struct burst *burst, const struct key *hop, size_t length) {
  bool all_of_one_size = burst->total == burst->segments * burst->size;
  return all_of_one_size && length <= burst->size && burst->segments < BURST_SEGMENTS &&
         burst->total + length <= BURST_BYTES && same(&burst->hop, hop);
}

static struct burst *burst_for(const struct key *hop, size_t length) {
  struct burst *burst = queue.bursts + queue.bursts_used;
  if (queue.bursts_used > 0 && fits(burst - 1, hop, length)) return burst - 1;
  queue.bursts_used++;
  burst->hop = *hop;
  burst->vectors = queue.vectors + queue.vectors_used;
  burst->vectors_used = burst->segments = 0;
  burst->size = length;
  burst->total = 0;
  return burst;
}

/* Queues a datagram made of one or two parts, after make_room. Its bytes have to stay until flush. */
static void enqueue(const struct key *hop, const struct iovec *parts, uint32_t count) {
  size_t length = parts[0].iov_len + (count > 1 ? parts[1].iov_len : 0);
  struct burst *burst = burst_for(hop, length);
  memcpy(burst->vectors + burst->vectors_used, parts, count * sizeof *parts);
  burst->vectors_used += count;
  queue.vectors_used += count;
  burst->segments++;
  burst->total += length;
}

/* --- large packets ------------------------------------------------------------------------------------------------ */

struct large {
  uint8_t *packet;
  size_t length;
  size_t transport; /* where the TCP header begins */
  size_t head; /* and where it ends */
  size_t size; /* of a segment's payload */
};

/* What the kernel says of a large packet. False when it is none that we asked for. */
static bool read_large(const struct virtio_net_hdr *header, uint8_t *packet, size_t length, struct large *large) {
  size_t transport = header->csum_start;
  bool tcp = header->gso_type == VIRTIO_NET_HDR_GSO_TCPV4 || header->gso_type == VIRTIO_NET_HDR_GSO_TCPV6;
  if (!tcp || header->gso_size == 0 || transport + 20 > length) return false;
  size_t head = transport + (packet[transport + 12] >> 4) * 4u;
  *large = (struct large){packet, length, transport, head, header->gso_size};
  return head >= transport + 20 && head <= HEADER_BYTES && head < length;
}

/* The large packet's headers as they are in the segment at `offset` of its payload. */
static void write_headers(const struct large *large, size_t offset, size_t payload, uint8_t *headers) {
  uint8_t *tcp = headers + large->transport;
  const uint8_t *data = large->packet + large->head + offset;
  bool last = large->head + offset + payload == large->length;
  memcpy(headers, large->packet, large->head);
  if (is_ipv4(headers)) put16(headers + 4, get16(headers + 4) + offset / large->size);
  finish_ip_header(headers, large->head + payload);
  put32(tcp + 4, get32(tcp + 4) + (uint32_t)offset);
  if (!last) tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
  put_sum(tcp + 16, 0);
  size_t header_length = large->head - large->transport;
  uint64_t pseudo = pseudo_sum(headers, IPPROTO_TCP, header_length + payload);
  put_checksum(tcp + 16, pseudo + sum(tcp, header_length) + sum(data, payload));
}

static void enqueue_segments(const struct key *hop, const struct large *large) {
  size_t whole = large->length - large->head;
  for (size_t offset = 0; offset < whole; offset += large->size) {
    size_t payload = whole - offset < large->size ? whole - offset : large->size;
    make_room();
    uint8_t *headers = queue.headers[queue.headers_used++];
    write_headers(large, offset, payload, headers);
    struct iovec parts[2] = {{headers, large->head}, {large->packet + large->head + offset, payload}};
    enqueue(hop, parts, 2);
  }
}

/* --- packets from the device -------------------------------------------------------------------------------------- */

/* The checksum that was left to the device: over all from csum_start, where the field holds the pseudo header's sum. */
static bool finish_checksum(const struct virtio_net_hdr *header, uint8_t *packet, size_t length) {
  size_t start = header->csum_start, field = start + header->csum_offset;
  if (field + 2 > length) return false;
  uint16_t checksum = (uint16_t)~fold(sum(packet + start, length - start));
  put_sum(packet + field, checksum ? checksum : 0xffff);
  return true;
}

static bool enqueue_packet(const struct key *hop, const struct virtio_net_hdr *header, uint8_t *packet, size_t length) {
  struct large large;
  if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
    bool known = read_large(header, packet, length, &large);
    if (known) enqueue_segments(hop, &large);
    return known;
  }
  if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !finish_checksum(header, packet, length)) return false;
  make_room();
  enqueue(hop, &(struct iovec){packet, length}, 1);
  return true;
}

static void error_to_device(enum error kind, const uint8_t *about, size_t length) {
  struct virtio_net_hdr header = {0};
  uint8_t error[ERROR_BYTES];
  struct iovec parts[2] = {{&header, sizeof header}, {error, make_error(error, kind, about, length)}};
  if (parts[1].iov_len && writev(tun, parts, 2) < 0) counters[IN_FAILED]++;
}

static void outbound(const struct virtio_net_hdr *header, uint8_t *packet, size_t length) {
  if (!well_formed(packet, length)) {
    counters[OUT_MALFORMED]++;
    return;
  }
  struct key receiver = destination(packet);
  const struct key *hop = next_hop(&receiver);
  if (!hop) {
    counters[OUT_NO_ROUTE]++;
    error_to_device(UNREACHABLE, packet, length);
  } else if (!lower_ttl(packet)) {
    counters[OUT_TTL]++;
    error_to_device(TIME_EXCEEDED, packet, length);
  } else if (!enqueue_packet(hop, header, packet, length)) {
    counters[OUT_MALFORMED]++;
  }
}

/* One turn: what the device has, within bounds, so that neither direction starves the other. How much was read. */
static uint32_t from_device(void) {
  static uint8_t space[READ_BYTES] __attribute__((aligned(64)));
  size_t used = 0;
  uint32_t reads = 0;
  for (; reads < READS && used + BEFORE_PACKET + MAX_PACKET <= READ_BYTES; reads++) {
    uint8_t *packet = space + used + BEFORE_PACKET;
    struct virtio_net_hdr *header = (struct virtio_net_hdr *)packet - 1;
    ssize_t got = read(tun, header, sizeof *header + MAX_PACKET);
    if (got < 0 && errno == EAGAIN) break;
    if (got < (ssize_t)sizeof *header) die(1, "read the device: %s", strerror(errno));
    size_t length = (size_t)got - sizeof *header;
    outbound(header, packet, length);
    used += (BEFORE_PACKET + length + 63) / 64 * 64;
  }
  flush();
  return reads;
}
