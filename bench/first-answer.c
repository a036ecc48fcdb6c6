/* Executes a plugin's ADD, prints what it printed, and then asks the first address in the result for an echo until it
 * answers:
 *
 *   first-answer TRIES MILLISECONDS PROGRAM
 *
 * MILLISECONDS pass between a request and the next. Exits with the plugin's status if that isn't 0, and with 75 when
 * none of the requests is answered. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNANSWERED 75

extern char **environ;

static char output[1 << 16];

static void die(const char *what) {
  perror(what);
  exit(70);
}

/* The plugin's standard output ends up in `output`. */
static int execute(char *program) {
  int ends[2], status;
  if (pipe2(ends, 0) < 0) die("pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  char *words[] = {program, NULL};
  pid_t pid;
  if (posix_spawn(&pid, program, &actions, NULL, words, environ) != 0) die(program);
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; length < sizeof output - 1; length += (size_t)got)
    if ((got = read(ends[0], output + length, sizeof output - 1 - length)) <= 0) break;
  if (waitpid(pid, &status, 0) < 0) die("waitpid");
  fputs(output, stdout);
  fflush(stdout);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 70;
}

/* Whatever the version of the result, an address stands with its length in quotes behind "address" or "ip". */
static int first_address(char *address, size_t size) {
  for (char *at = output; (at = strchr(at, '"')) != NULL; at++) {
    size_t length = strcspn(at + 1, "/\"");
    unsigned char bytes[16];
    if (at[1 + length] != '/' || length >= size) continue;
    memcpy(address, at + 1, length);
    address[length] = 0;
    if (inet_pton(AF_INET, address, bytes) == 1) return AF_INET;
    if (inet_pton(AF_INET6, address, bytes) == 1) return AF_INET6;
  }
  fprintf(stderr, "no address in %s\n", output);
  exit(70);
}

static uint16_t checksum(const uint16_t *words, size_t count) {
  uint32_t sum = 0;
  while (count-- > 0) sum += *words++;
  return (uint16_t)~((sum & 0xffff) + (sum >> 16));
}

/* Whether an answer to one of ours comes in time. */
static int answered(int fd, int family, uint16_t id, int milliseconds) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t end = now.tv_sec * 1000000000LL + now.tv_nsec + milliseconds * 1000000LL;
  for (;;) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = end - (now.tv_sec * 1000000000LL + now.tv_nsec);
    struct timespec wait = {left / 1000000000, left % 1000000000};
    struct pollfd item = {fd, POLLIN, 0};
    if (left <= 0 || ppoll(&item, 1, &wait, NULL) <= 0) return 0;
    unsigned char packet[256];
    ssize_t length = recv(fd, packet, sizeof packet, 0);
    size_t header = family == AF_INET ? (packet[0] & 15u) * 4 : 0;
    if (length < (ssize_t)header + 8) continue;
    int type = family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
    if (packet[header] == type && memcmp(packet + header + 4, &id, 2) == 0) return 1;
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return 64;
  int status = execute(argv[3]);
  if (status != 0) return status;
  char text[INET6_ADDRSTRLEN];
  struct sockaddr_in6 six = {.sin6_family = AF_INET6};
  struct sockaddr_in four = {.sin_family = AF_INET};
  int family = first_address(text, sizeof text);
  inet_pton(family, text, family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr);
  const struct sockaddr *to = family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six;
  int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
  if (fd < 0) die("socket");
  uint16_t id = (uint16_t)getpid();
  for (int sequence = 0; sequence < atoi(argv[1]); sequence++) {
    uint16_t request[4] = {htons((family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST) << 8), 0, id, htons((uint16_t)sequence)};
    if (family == AF_INET) request[1] = checksum(request, 4);
    (void)!sendto(fd, request, sizeof request, 0, to, family == AF_INET ? sizeof four : sizeof six);
    if (answered(fd, family, id, atoi(argv[2]))) return 0;
  }
  return UNANSWERED;
}
