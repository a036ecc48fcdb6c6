// Sends UDP datagrams as fast as one processor can and prints the nanoseconds that each took, at least, over batches of 1024.
// The sender carries a packet through the whole host in its own time, so that this is what the host's rules cost.
//
// usage: policy-flood ADDRESS PORT BATCHES [answered]: with "answered", one answer is waited for first, so that the flow is
// established.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1024, TRIES = 100 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static int fail(const char *what) {
  perror(what);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: policy-flood ADDRESS PORT BATCHES [answered]\n"), 2;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return fail(argv[1]);
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return fail("connect");
  char byte = 'x';
  if (argc > 4) {
    struct timeval patience = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int tries = 0;
    do {
      if (tries++ == TRIES) return fprintf(stderr, "no answer\n"), 1;
      if (send(fd, &byte, 1, 0) < 0) return fail("send");
    } while (recv(fd, &byte, 1, 0) < 0);
  }
  static struct mmsghdr messages[BATCH];
  struct iovec data = {.iov_base = &byte, .iov_len = 1};
  for (int at = 0; at < BATCH; at++) messages[at].msg_hdr = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1};
  double least = 1e18;
  for (int batch = atoi(argv[3]); batch > 0; batch--) {
    double start = now();
    int sent = sendmmsg(fd, messages, BATCH, 0);
    double each = sent > 0 ? (now() - start) / sent : 1e18;
    if (each < least) least = each;
  }
  printf("%.0f\n", least);
  return 0;
}
