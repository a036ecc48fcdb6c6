// Frames of the policy tests, in the network namespace that it is started in. It ends with its standard input.
//   frames send DEVICE                sends each line of standard input, in hexadecimal
//   frames capture                    prints each frame of any device, in hexadecimal, after a line "ready"
//   frames race MARK LOOKED ADDRESS…  sends MARK in UDP to port 9999 of the addresses, again and again; prints "seen"
//                                     and the first frame to each MAC and address that has LOOKED in it

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 2048, PORT = 9999, EVERY_MS = 2 };

static unsigned char frame[MOST];
/* By family and the last bytes of destination address and MAC. */
static char seen[2][256][65536];

static int packet_socket(void) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
  if (fd < 0) {
    perror("AF_PACKET");
    exit(1);
  }
  return fd;
}

static int send_frames(const char *device) {
  int fd = packet_socket();
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device)};
  char line[2 * MOST + 2];
  while (fgets(line, sizeof line, stdin) != NULL) {
    size_t length = strcspn(line, "\n") / 2;
    for (size_t at = 0; at < length; at++) {
      unsigned int byte = 0;
      sscanf(line + 2 * at, "%2x", &byte);
      frame[at] = (unsigned char)byte;
    }
    memcpy(&to.sll_protocol, frame + 12, 2);
    if (sendto(fd, frame, length, 0, (struct sockaddr *)&to, sizeof to) < 0) perror("sendto");
  }
  return 0;
}

static int capture(void) {
  int fd = packet_socket();
  struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  setlinebuf(stdout);
  puts("ready");
  while (poll(polled, 2, -1) >= 0 && polled[1].revents == 0) {
    ssize_t length = recv(fd, frame, sizeof frame, MSG_DONTWAIT);
    for (ssize_t at = 0; at < length; at++) printf("%02x", frame[at]);
    if (length > 0) puts("");
  }
  return 0;
}

static void send_mark(const int sockets[2], const char *mark, const char *address) {
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
  if (inet_pton(AF_INET, address, &four.sin_addr) == 1)
    sendto(sockets[0], mark, strlen(mark), MSG_DONTWAIT, (struct sockaddr *)&four, sizeof four);
  else if (inet_pton(AF_INET6, address, &six.sin6_addr) == 1)
    sendto(sockets[1], mark, strlen(mark), MSG_DONTWAIT, (struct sockaddr *)&six, sizeof six);
}

static int race(const char *mark, const char *looked, char *const addresses[], int count) {
  int fd = packet_socket();
  const int sockets[] = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_DGRAM, 0)};
  struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  setlinebuf(stdout);
  puts("ready");
  for (;;) {
    for (int at = 0; at < count; at++) send_mark(sockets, mark, addresses[at]);
    if (poll(polled + 1, 1, EVERY_MS) != 0) return 0;
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    for (ssize_t length; (length = recvfrom(fd, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from, &size)) > 0;) {
      // What a bridge floods for a MAC that it doesn't know is for nobody here.
      if (from.sll_pkttype == PACKET_OTHERHOST || memmem(frame, (size_t)length, looked, strlen(looked)) == NULL) continue;
      int six = from.sll_protocol == htons(ETH_P_IPV6);
      char *known = &seen[six][frame[six ? 53 : 33]][frame[4] << 8 | frame[5]];
      if (*known) continue;
      *known = 1;
      printf("seen ");
      for (ssize_t at = 0; at < length; at++) printf("%02x", frame[at]);
      puts("");
    }
  }
}

int main(int argc, char *argv[]) {
  if (argc == 3 && strcmp(argv[1], "send") == 0) return send_frames(argv[2]);
  if (argc == 2 && strcmp(argv[1], "capture") == 0) return capture();
  if (argc > 4 && strcmp(argv[1], "race") == 0) return race(argv[2], argv[3], argv + 4, argc - 4);
  fputs("frames send DEVICE | capture | race MARK LOOKED ADDRESS...\n", stderr);
  return 2;
}
