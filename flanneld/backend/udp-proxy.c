/* The data path of the udp backend: carries packets between a TUN device and peers. On the wire a packet is what
 * flannel's udp backend sends: one datagram, from our port to the peer's, whose payload is the IP packet.
 *
 *   udp-proxy DEVICE ADDRESS PORT [SOURCE]...
 *
 *   DEVICE   the TUN device. It is made if missing and stays, so that a restart finds its addresses and routes
 *   ADDRESS  the underlay address, IPv4 or IPv6, to send from and to receive on
 *   PORT     its UDP port
 *   SOURCE   the address that ICMP errors come from, at most one of each family; without one there are none. When it is
 *            an address of this host, IPv4 needs net.ipv4.conf.DEVICE.accept_local=1, or the kernel drops the errors
 *
 * It is a child of the agent, which holds the other end of a stream socket pair at descriptor 3: control. It says on
 * standard error what went wrong, and ends with 0 after STOP or when control is closed, with 1 when it can't start or
 * go on, with 2 after a message that makes no sense. It gives up all privileges when it has started.
 *
 * Control, to the proxy: messages of 40 bytes. Numbers are in network order, an IPv4 address is ::ffff:a.b.c.d, and
 * what a type doesn't use is zero.
 *
 *   byte  0  type      1 SET     add a route, or change its next hop
 *                      2 DELETE  remove a route, if it is there
 *                      3 BEGIN   from here SET and DELETE work on a new table, empty at first
 *                      4 COMMIT  the new table takes the place of the old one, between two packets
 *                      5 COUNT   ask for the counters; the answer comes when all before is done
 *                      6 STOP
 *         1  length    SET, DELETE: of the network, of 128 bits (IPv4 /24: 120)
 *         2  port      SET: of the next hop
 *         4  zero
 *         8  network   SET, DELETE: without host bits
 *        24  next hop  SET: of ADDRESS' family
 *
 * Control, to the agent: all counters of udp-proxy/common.h in their order, 8 bytes each; once when it is ready to
 * forward, and once for each COUNT. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "udp-proxy/inbound.h"

/* --- control ------------------------------------------------------------------------------------------------------ */

enum { SET = 1, DELETE, BEGIN, COMMIT, COUNT, STOP };

struct message {
  uint8_t type, length;
  uint16_t port;
  uint32_t zero;
  uint8_t network[16], next_hop[16];
};
_Static_assert(sizeof(struct message) == 40, "as described above");

static bool all_zero(const uint8_t *bytes, size_t length) {
  while (length > 0 && bytes[length - 1] == 0) length--;
  return length == 0;
}

static bool makes_sense(const struct message *message, const struct key *network, const struct key *hop) {
  if (message->type > DELETE)
    return message->type <= STOP && all_zero((const uint8_t *)message + 1, sizeof *message - 1);
  struct key bare = masked(*network, message->length);
  if (message->zero || message->length > 128 || !same(&bare, network)) return false;
  if (message->type == DELETE) return message->port == 0 && all_zero(message->next_hop, 16);
  return message->type == SET && hop->extra != 0 && is_ipv4_key(hop) == (underlay == AF_INET);
}

/* An agent that asks without reading the answers is broken; nothing is kept for it. */
static void answer(void) {
  uint64_t values[COUNTERS];
  counters[ROUTES] = active->count;
  for (int i = 0; i < COUNTERS; i++) values[i] = htobe64(counters[i]);
  if (send(CONTROL, values, sizeof values, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof values) return;
  if (errno == EPIPE || errno == ECONNRESET) exit(0);
  die(1, "answer on control: %s", strerror(errno));
}

static void obey(const struct message *message) {
  struct key network = address_key(message->network, message->length);
  struct key hop = address_key(message->next_hop, ntohs(message->port));
  if (!makes_sense(message, &network, &hop)) die(2, "a control message of type %u makes no sense", message->type);
  switch (message->type) {
    case SET: set_route(edited, &network, &hop); break;
    case DELETE: delete_route(edited, &network); break;
    case BEGIN: begin_table(); break;
    case COMMIT: commit_table(); break;
    case COUNT: answer(); break;
    default: exit(0);
  }
}

/* One turn: what has come, which may end in the middle of a message. */
static void from_control(void) {
  static uint8_t buffer[256 * sizeof(struct message)];
  static size_t filled;
  ssize_t got = recv(CONTROL, buffer + filled, sizeof buffer - filled, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) exit(0);
  filled += (size_t)got;
  size_t done = 0;
  for (struct message message; filled - done >= sizeof message; done += sizeof message) {
    memcpy(&message, buffer + done, sizeof message);
    obey(&message);
  }
  filled -= done;
  memmove(buffer, buffer + done, filled);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

/* An address as 16 bytes, and its family. */
static sa_family_t parse_address(const char *text, uint8_t *bytes) {
  memset(bytes, 0, 10);
  memset(bytes + 10, 0xff, 2);
  if (inet_pton(AF_INET, text, bytes + 12) == 1) return AF_INET;
  if (inet_pton(AF_INET6, text, bytes) == 1) return AF_INET6;
  die(1, "%s is not an address", text);
}

static uint16_t parse_port(const char *text) {
  char *end;
  unsigned long port = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || port == 0 || port > 65535) die(1, "%s is not a port", text);
  return (uint16_t)port;
}

static void set_source(const char *text) {
  uint8_t bytes[16];
  if (parse_address(text, bytes) == AF_INET) {
    memcpy(ipv4_source, bytes + 12, 4);
    has_ipv4_source = true;
  } else {
    memcpy(ipv6_source, bytes, 16);
    has_ipv6_source = true;
  }
}

static int open_udp(const char *address, uint16_t port) {
  uint8_t bytes[16];
  underlay = parse_address(address, bytes);
  struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  memcpy(&ipv4.sin_addr, bytes + 12, 4);
  memcpy(&ipv6.sin6_addr, bytes, 16);
  int fd = socket(underlay, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die(1, "socket: %s", strerror(errno));
  int bound = underlay == AF_INET ? bind(fd, (struct sockaddr *)&ipv4, sizeof ipv4)
                                  : bind(fd, (struct sockaddr *)&ipv6, sizeof ipv6);
  if (bound < 0) die(1, "bind to %s port %u: %s", address, port, strerror(errno));
  return fd;
}

/* What makes it faster; without it it works too, so a kernel may refuse. */
static void tune(int fd) {
  int size = SOCKET_BYTES, on = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
}

/* linux/if_tun.h: what the device may hand over; USO is TUN_F_USO4 | TUN_F_USO6, newer than Debian 12's headers. */
enum { OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, USO = 0x20 | 0x40 };

static int open_tun(const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  size_t length = strlen(name);
  if (length == 0 || length >= IFNAMSIZ) die(1, "\"%s\" can't be the name of a device", name);
  memcpy(request.ifr_name, name, length);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) die(1, "open /dev/net/tun: %s", strerror(errno));
  bool attached = ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
  /* A kernel that could hand over large UDP packets also takes them. They are not asked for: who sends them is rare. */
  merges_udp = attached && ioctl(fd, TUNSETOFFLOAD, OFFLOADS | USO) == 0;
  if (!attached || ioctl(fd, TUNSETOFFLOAD, OFFLOADS) < 0)
    die(1, "attach to the TUN device %s: %s", name, strerror(errno));
  return fd;
}

/* Packets come from other machines: whatever one might do to this process, it can touch its own descriptors only. */
static void give_up_privileges(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
  bool root = geteuid() == 0;
  if (root && (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))
    die(1, "become user %d: %s", NOBODY, strerror(errno));
  if (syscall(SYS_capset, &header, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    die(1, "give up privileges: %s", strerror(errno));
}

/* Whether packets follow each other closely, as counted over a window. `taken` is what the kernel has handed over: a large
 * packet counts once, so that requests with their answers, and a TCP connection at full speed, don't come near. */
static bool is_busy(uint32_t taken) {
  static uint64_t window;
  static uint32_t taken_in_window;
  static bool busy;
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  uint64_t passed = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec - window;
  taken_in_window += taken;
  if (passed < WINDOW_NS) return busy;
  busy = taken_in_window >= passed / BUSY_NS;
  window += passed;
  taken_in_window = 0;
  return busy;
}

/* A turn costs about the same whatever it carries: somebody is woken, poll, a send. Where each would carry one packet they
 * are held apart, as a network card holds its interrupts apart, and carry what has come meanwhile. */
static void pause_turns(void) {
  struct timespec pause = {.tv_nsec = PAUSE_NS};
  nanosleep(&pause, NULL);
}

static _Noreturn void run(void) {
  struct pollfd ready[] = {{CONTROL, POLLIN, 0}, {tun, POLLIN, 0}, {udp, POLLIN, 0}};
  for (;;) {
    if (poll(ready, 3, -1) < 0 && errno != EINTR) die(1, "poll: %s", strerror(errno));
    if (ready[0].revents) from_control();
    uint32_t out = ready[1].revents ? from_device() : 0, in = ready[2].revents ? from_peers() : 0;
    if (is_busy(out + in) && out < READS && in < RECEIVES) pause_turns();
  }
}

int main(int count, char **arguments) {
  if (count < 4 || count > 6) die(1, "usage: udp-proxy DEVICE ADDRESS PORT [SOURCE]...");
  signal(SIGPIPE, SIG_IGN);
  for (int i = 4; i < count; i++) set_source(arguments[i]);
  udp = open_udp(arguments[2], parse_port(arguments[3]));
  tune(udp);
  tun = open_tun(arguments[1]);
  give_up_privileges();
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* ns: a pause is as long as it says */
  answer();
  run();
}
