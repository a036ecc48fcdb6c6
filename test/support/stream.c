// Datagrams in both families, again and again, in the network namespace that it is started in; who gets one sends it back.
// It ends with its standard input.
//   stream SELF PORT EVERY_MS ADDRESS…
// Each datagram says who has sent it (SELF, a number), which of the addresses it goes to, and in which epoch. Orders on
// standard input, each answered by a line:
//   epoch N   what is sent from now on says N (0 to 1023); answered by "epoch N"
//   round     answered by "round" when everything has been sent twice more
//   report    lines "sent ADDRESS EPOCH COUNT", "back ADDRESS EPOCH COUNT" (sent back to us) and
//             "got FROM ADDRESS EPOCH COUNT" (ADDRESS: an index into those of FROM), then "end"

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PODS = 16, ADDRESSES = 2 * PODS, EPOCHS = 1024, BUFFER = 1 << 24 };

struct datagram {
  uint16_t from, address, epoch;
};

static uint32_t sent[ADDRESSES][EPOCHS], back[ADDRESSES][EPOCHS], got[PODS][ADDRESSES][EPOCHS];

static union address {
  struct sockaddr any;
  struct sockaddr_in four;
  struct sockaddr_in6 six;
} targets[ADDRESSES];
static int target_count;

static socklen_t size_of(const union address *address) {
  return address->any.sa_family == AF_INET ? sizeof address->four : sizeof address->six;
}

static union address parse(const char *text, uint16_t port) {
  union address address = {0};
  if (inet_pton(AF_INET, text, &address.four.sin_addr) == 1) {
    address.four.sin_family = AF_INET;
    address.four.sin_port = htons(port);
  } else if (inet_pton(AF_INET6, text, &address.six.sin6_addr) == 1) {
    address.six.sin6_family = AF_INET6;
    address.six.sin6_port = htons(port);
  } else {
    fprintf(stderr, "%s: no address\n", text);
    exit(2);
  }
  return address;
}

/* Nothing may be lost for want of room. */
static int udp_socket(const char *any, uint16_t port) {
  union address own = parse(any, port);
  int fd = socket(own.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){BUFFER}, sizeof(int));
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
  if (bind(fd, &own.any, size_of(&own)) < 0) {
    perror("bind");
    exit(1);
  }
  return fd;
}

static void receive(int fd, int answers) {
  struct datagram each;
  union address from;
  for (;;) {
    socklen_t size = sizeof from;
    if (recvfrom(fd, &each, sizeof each, MSG_DONTWAIT, &from.any, &size) != sizeof each) return;
    if (each.from >= PODS || each.address >= ADDRESSES || each.epoch >= EPOCHS) continue;
    if (answers) back[each.address][each.epoch]++;
    else {
      got[each.from][each.address][each.epoch]++;
      sendto(fd, &each, sizeof each, MSG_DONTWAIT, &from.any, size);
    }
  }
}

static void print(const char *what, uint32_t counts[EPOCHS], int address) {
  for (int epoch = 0; epoch < EPOCHS; epoch++)
    if (counts[epoch] > 0) printf("%s %d %d %u\n", what, address, epoch, counts[epoch]);
}

static void report(void) {
  char what[16];
  for (int at = 0; at < target_count; at++) {
    print("sent", sent[at], at);
    print("back", back[at], at);
  }
  for (int from = 0; from < PODS; from++) {
    snprintf(what, sizeof what, "got %d", from);
    for (int at = 0; at < ADDRESSES; at++) print(what, got[from][at], at);
  }
  puts("end");
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char *argv[]) {
  if (argc < 5 || argc - 4 > ADDRESSES || atoi(argv[1]) >= PODS) {
    fputs("stream SELF PORT EVERY_MS ADDRESS...\n", stderr);
    return 2;
  }
  struct datagram each = {.from = (uint16_t)atoi(argv[1])};
  uint16_t port = (uint16_t)atoi(argv[2]);
  int every = atoi(argv[3]);
  for (; target_count < argc - 4; target_count++) targets[target_count] = parse(argv[4 + target_count], port);
  /* Where others' come to, and where ours go from. */
  struct pollfd polled[] = {
      {.fd = 0, .events = POLLIN},
      {.fd = udp_socket("0.0.0.0", port), .events = POLLIN},
      {.fd = udp_socket("::", port), .events = POLLIN},
      {.fd = udp_socket("0.0.0.0", 0), .events = POLLIN},
      {.fd = udp_socket("::", 0), .events = POLLIN},
  };
  char line[64];
  setvbuf(stdin, NULL, _IONBF, 0);
  puts("ready");
  int rounds = 0;
  for (int64_t due = now_ms();;) {
    fflush(stdout);
    int64_t wait = due - now_ms();
    if (poll(polled, 5, wait > 0 ? (int)wait : 0) < 0) return 1;
    for (int at = 1; at < 5; at++) receive(polled[at].fd, at > 2);
    if (polled[0].revents != 0) {
      if (fgets(line, sizeof line, stdin) == NULL) return 0;
      if (sscanf(line, "epoch %hu", &each.epoch) == 1) printf("epoch %hu\n", each.epoch);
      else if (strcmp(line, "round\n") == 0) rounds = 2;
      else report();
    }
    if (now_ms() < due) continue;
    for (int at = 0; at < target_count; at++) {
      each.address = (uint16_t)at;
      int fd = polled[targets[at].any.sa_family == AF_INET ? 3 : 4].fd;
      if (sendto(fd, &each, sizeof each, MSG_DONTWAIT, &targets[at].any, size_of(&targets[at])) == sizeof each)
        sent[at][each.epoch % EPOCHS]++;
    }
    due = now_ms() + every;
    if (rounds > 0 && --rounds == 0) puts("round");
  }
}
