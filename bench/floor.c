/* The least that attaching and detaching a pod can cost on this machine: netlink and nothing else. No configuration, no
 * records, no answer; IPv4 only. What the CNI plugin is measured against.
 *
 *   floor add BRIDGE VETH NETNS IFNAME ADDRESS PREFIX_LENGTH GATEWAY
 *   floor del VETH
 *
 * Equivalent to:
 *   ip link add VETH up master BRIDGE type veth peer name IFNAME netns NETNS
 *   ip -n NETNS address add ADDRESS/PREFIX_LENGTH dev IFNAME
 *   ip -n NETNS link set IFNAME up
 *   ip -n NETNS route add default via GATEWAY dev IFNAME
 * and
 *   ip link del VETH */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Messages one behind the other, to be sent at once. */
struct batch {
  _Alignas(NLMSG_ALIGNTO) unsigned char bytes[2048];
  size_t size;
  unsigned messages;
};

static _Noreturn void fail(const char *what, int reason) {
  fprintf(stderr, "%s: %s\n", what, strerror(reason));
  exit(1);
}

static void *append(struct batch *batch, const void *data, size_t size) {
  void *at = batch->bytes + batch->size;
  if (NLMSG_ALIGN(size) > sizeof batch->bytes - batch->size) fail("batch", EMSGSIZE);
  if (size > 0) memcpy(at, data, size);
  batch->size += NLMSG_ALIGN(size);
  return at;
}

static struct nlmsghdr *begin(struct batch *batch, uint16_t type, unsigned flags, const void *head, size_t size) {
  const struct nlmsghdr header = {
    .nlmsg_type = type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags), .nlmsg_seq = ++batch->messages};
  struct nlmsghdr *message = append(batch, &header, sizeof header);
  append(batch, head, size);
  return message;
}

static void end(struct batch *batch, struct nlmsghdr *message) {
  message->nlmsg_len = (uint32_t)(batch->bytes + batch->size - (unsigned char *)message);
}

static struct rtattr *attribute(struct batch *batch, unsigned short type, const void *data, size_t size) {
  const struct rtattr header = {(unsigned short)RTA_LENGTH(size), type};
  struct rtattr *at = append(batch, &header, sizeof header);
  append(batch, data, size);
  return at;
}

static struct rtattr *nest(struct batch *batch, unsigned short type) { return attribute(batch, type, NULL, 0); }

static void close_nest(struct batch *batch, struct rtattr *at) {
  at->rta_len = (unsigned short)(batch->bytes + batch->size - (unsigned char *)at);
}

static void text(struct batch *batch, unsigned short type, const char *value) {
  attribute(batch, type, value, strlen(value) + 1);
}

/* Sends the batch and takes an acknowledgement for each message. */
static void request(int fd, const struct batch *batch) {
  if (send(fd, batch->bytes, batch->size, 0) < 0) fail("send", errno);
  for (unsigned left = batch->messages; left > 0;) {
    _Alignas(NLMSG_ALIGNTO) unsigned char answer[4096];
    ssize_t size = recv(fd, answer, sizeof answer, 0);
    if (size < 0) fail("recv", errno);
    struct nlmsghdr *message = (struct nlmsghdr *)(void *)answer;
    for (; NLMSG_OK(message, size) && left > 0; message = NLMSG_NEXT(message, size)) {
      const struct nlmsgerr *error = NLMSG_DATA(message);
      if (message->nlmsg_type != NLMSG_ERROR) continue;
      if (error->error != 0) fail("netlink", -error->error);
      left--;
    }
  }
}

static int netlink_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("socket", errno);
  return fd;
}

static unsigned index_of(const char *name) {
  unsigned index = if_nametoindex(name);
  if (index == 0) fail(name, errno);
  return index;
}

static struct in_addr address_of(const char *word) {
  struct in_addr address;
  if (inet_pton(AF_INET, word, &address) != 1) fail(word, EINVAL);
  return address;
}

static void create(int fd, const char *bridge, const char *veth, int netns, const char *ifname) {
  struct batch batch = {.size = 0};
  const struct ifinfomsg up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, unspecified = {0};
  const unsigned master = index_of(bridge);
  struct nlmsghdr *message = begin(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
  text(&batch, IFLA_IFNAME, veth);
  attribute(&batch, IFLA_MASTER, &master, sizeof master);
  struct rtattr *info = nest(&batch, IFLA_LINKINFO);
  text(&batch, IFLA_INFO_KIND, "veth");
  struct rtattr *data = nest(&batch, IFLA_INFO_DATA), *peer = nest(&batch, VETH_INFO_PEER);
  append(&batch, &unspecified, sizeof unspecified);
  text(&batch, IFLA_IFNAME, ifname);
  attribute(&batch, IFLA_NET_NS_FD, &netns, sizeof netns);
  close_nest(&batch, peer);
  close_nest(&batch, data);
  close_nest(&batch, info);
  end(&batch, message);
  request(fd, &batch);
}

/* In the pod's namespace. */
static void configure(int fd, const char *ifname, const char *address, const char *length, const char *gateway) {
  struct batch batch = {.size = 0};
  const unsigned index = index_of(ifname);
  const struct in_addr own = address_of(address), next = address_of(gateway);
  const struct ifaddrmsg add = {AF_INET, (unsigned char)atoi(length), 0, RT_SCOPE_UNIVERSE, index};
  struct nlmsghdr *message = begin(&batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &add, sizeof add);
  attribute(&batch, IFA_LOCAL, &own, sizeof own);
  attribute(&batch, IFA_ADDRESS, &own, sizeof own);
  end(&batch, message);
  const struct ifinfomsg up = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  end(&batch, begin(&batch, RTM_NEWLINK, 0, &up, sizeof up));
  const struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                              .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  message = begin(&batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
  attribute(&batch, RTA_GATEWAY, &next, sizeof next);
  attribute(&batch, RTA_OIF, &index, sizeof index);
  end(&batch, message);
  request(fd, &batch);
}

static void add(char **words) {
  int netns = open(words[2], O_RDONLY | O_CLOEXEC);
  if (netns < 0) fail(words[2], errno);
  create(netlink_socket(), words[0], words[1], netns, words[3]);
  if (setns(netns, CLONE_NEWNET) != 0) fail("setns", errno);
  configure(netlink_socket(), words[3], words[4], words[5], words[6]);
}

static void delete(const char *veth) {
  struct batch batch = {.size = 0};
  const struct ifinfomsg any = {0};
  struct nlmsghdr *message = begin(&batch, RTM_DELLINK, 0, &any, sizeof any);
  text(&batch, IFLA_IFNAME, veth);
  end(&batch, message);
  request(netlink_socket(), &batch);
}

int main(int argc, char **argv) {
  if (argc == 9 && strcmp(argv[1], "add") == 0) add(argv + 2);
  else if (argc == 3 && strcmp(argv[1], "del") == 0) delete(argv[2]);
  else fail("floor: wrong arguments", EINVAL);
}
