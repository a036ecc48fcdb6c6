/* Starts a program that programs routes to peers, and says when what became visible: each line is a word and the
 * nanoseconds of CLOCK_MONOTONIC.
 *
 *   agent-timer NETWORK PEERS DIRECTORY FILE PROGRAM [ARGUMENT]...
 *
 *   pid PID              of the program
 *   start NS             just before it was started
 *   file NS              FILE was put into DIRECTORY by rename, or closed after writing
 *   programmed NS        the kernel has told of routes by a gateway to PEERS different /24 of NETWORK, an IPv4 /8
 *   add NS A.B.C.0       after that: a route to that /24 came
 *   delete NS A.B.C.0    or went
 *
 * It ends when its standard input does, and with it the program. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE_BYTES = 256 << 20, ARGUMENTS = 5 };

static uint32_t network, wanted, seen;
static bool known[1 << 16];

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "agent-timer: %s: %s\n", what, strerror(errno));
  exit(1);
}

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int listen_to_routes(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), size = QUEUE_BYTES;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_ROUTE};
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("listen to routes");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  return fd;
}

static void route_changed(const struct nlmsghdr *header) {
  const struct rtmsg *route = NLMSG_DATA(header);
  int left = (int)RTM_PAYLOAD(header);
  uint32_t destination = 0;
  bool gateway = false;
  for (struct rtattr *each = RTM_RTA(route); RTA_OK(each, left); each = RTA_NEXT(each, left)) {
    if (each->rta_type == RTA_DST) memcpy(&destination, RTA_DATA(each), 4);
    gateway |= each->rta_type == RTA_GATEWAY;
  }
  destination = ntohl(destination);
  if (!gateway || route->rtm_dst_len != 24 || destination >> 24 != network >> 24) return;
  bool *slot = &known[destination >> 8 & 0xffff], added = header->nlmsg_type == RTM_NEWROUTE;
  if (*slot == added) return;
  *slot = added;
  bool complete = seen >= wanted;
  if (complete) {
    struct in_addr address = {htonl(destination)};
    printf("%s %lld %s\n", added ? "add" : "delete", now(), inet_ntoa(address));
  } else if (added && ++seen == wanted) {
    printf("programmed %lld\n", now());
  }
}

static void read_routes(int fd) {
  static char buffer[1 << 16];
  ssize_t length = recv(fd, buffer, sizeof buffer, 0);
  if (length < 0) fail("read routes");
  int left = (int)length;
  for (struct nlmsghdr *header = (void *)buffer; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left))
    if (header->nlmsg_type == RTM_NEWROUTE || header->nlmsg_type == RTM_DELROUTE) route_changed(header);
}

static void read_files(int fd, const char *file) {
  static _Alignas(struct inotify_event) char buffer[1 << 16];
  static bool told;
  ssize_t length = read(fd, buffer, sizeof buffer);
  for (char *at = buffer; at < buffer + length;) {
    struct inotify_event *event = (void *)at;
    if (!told && event->len > 0 && strcmp(event->name, file) == 0) {
      told = true;
      printf("file %lld\n", now());
    }
    at += sizeof *event + event->len;
  }
}

static pid_t start(char **program) {
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  execv(program[0], program);
  fail(program[0]);
}

int main(int count, char **arguments) {
  if (count <= ARGUMENTS) return fputs("usage: agent-timer NETWORK PEERS DIRECTORY FILE PROGRAM [ARGUMENT]...\n", stderr), 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  network = ntohl(inet_addr(arguments[1]));
  wanted = (uint32_t)atoi(arguments[2]);
  int files = inotify_init1(IN_CLOEXEC);
  if (inotify_add_watch(files, arguments[3], IN_MOVED_TO | IN_CLOSE_WRITE) < 0) fail(arguments[3]);
  struct pollfd ready[] = {{listen_to_routes(), POLLIN, 0}, {files, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  printf("start %lld\n", now());
  pid_t child = start(arguments + ARGUMENTS);
  printf("pid %d\n", child);
  for (;;) {
    if (poll(ready, 3, -1) < 0) fail("poll");
    if (ready[0].revents) read_routes(ready[0].fd);
    if (ready[1].revents) read_files(ready[1].fd, arguments[4]);
    if (ready[2].revents) break;
  }
  kill(child, SIGTERM);
  waitpid(child, NULL, 0);
}
