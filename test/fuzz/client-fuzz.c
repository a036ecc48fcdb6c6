/* Feeds the C client, inside one process, with random environments and inputs and with the messages of an agent that
 * have been changed at random. It must not break (build it with sanitizers), must not hang, and what it refuses must
 * give an error object. Arguments: seed, rounds, a directory that holds a plugin called "other". */

#define _GNU_SOURCE
#include <assert.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void leave(int code);
static pid_t fork_seldom(void);

/* Where the client's log goes, so that ours can be read. */
enum { LOG = 100 };
#undef STDERR_FILENO
#define STDERR_FILENO LOG
#define main client_main
#define _exit leave
#define fork fork_seldom
#include "../../cni-plugin/client.c"
#undef main
#undef _exit
#undef fork
#undef STDERR_FILENO

enum { MOST = 60000 };

static uint64_t state;
static pid_t self;
static jmp_buf start;
static int failed_with;

static uint32_t below(uint32_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)((state >> 32) % limit);
}

static _Noreturn void leave(int code) {
  if (getpid() != self) _exit(code);
  failed_with = code;
  longjmp(start, 1);
}

/* Starting a process takes longer than everything else. */
static pid_t fork_seldom(void) {
  if (below(50) == 0) return fork();
  errno = EAGAIN;
  return -1;
}

/* --- what the client gets --------------------------------------------------------------------------------------- */

/* In place of the client's own space, so that messages come to its end. */
static unsigned char small_space[6000];
static unsigned char answer[MOST + 64];
static size_t answer_size;

static void random_bytes(unsigned char *to, size_t size) {
  for (size_t i = 0; i < size; i++) to[i] = (unsigned char)below(256);
}

static void add_random(struct buffer *to, int kind, uint32_t most) {
  static unsigned char bytes[4096];
  size_t size = below(most);
  random_bytes(bytes, size);
  add_block(to, kind, bytes, size);
}

static void add_result(struct buffer *to) {
  size_t start_of = open_block(to, RESULT);
  add_block(to, STATUS, (unsigned char[4]){(unsigned char)below(256), below(20) == 0}, 4);
  add_random(to, OUTPUT, 4096);
  add_random(to, ERRORS, 200);
  close_block(to, start_of);
}

static void add_order(struct buffer *to) {
  static char long_name[300];
  memset(long_name, 'x', sizeof long_name - 1);
  const char *const PLUGINS[] = {"other", "other", "missing", long_name, ""};
  static const char *const PAIRS[] = {"CNI_COMMAND=DEL", "CNI_ARGS=\n\"", "LD_PRELOAD=x", "CNI_", "CNI_PATH="};
  size_t start_of = open_block(to, EXECUTE);
  const char *plugin = PLUGINS[below(5)];
  add_block(to, PLUGIN, plugin, strlen(plugin));
  for (uint32_t i = below(4); i > 0; i--) {
    const char *pair = PAIRS[below(5)];
    add_block(to, ENVIRONMENT, pair, strlen(pair));
  }
  add_random(to, INPUT, 4096);
  close_block(to, start_of);
}

static void make_answer(void) {
  struct buffer to = {answer, 0, MOST};
  for (uint32_t orders = below(3); orders > 0; orders--) add_order(&to);
  add_result(&to);
  answer_size = to.size;
}

/* Removes bytes and puts others in their place. */
static void replace(size_t at, size_t removed, const unsigned char *bytes, size_t size) {
  if (removed > answer_size - at) removed = answer_size - at;
  if (answer_size - removed + size > MOST) return;
  memmove(answer + at + size, answer + at + removed, answer_size - at - removed);
  memcpy(answer + at, bytes, size);
  answer_size += size - removed;
}

static void mutate(void) {
  static const uint32_t LENGTHS[] = {0, 1, 4, 5, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff, MESSAGE_BYTES,
                                     MESSAGE_BYTES + 1, INPUT_BYTES};
  unsigned char bytes[64];
  size_t at = below((uint32_t)answer_size + 1), size = below(8);
  random_bytes(bytes, sizeof bytes);
  switch (below(6)) {
    case 0: replace(at, 1, bytes, 1); break;
    case 1: replace(at, size, bytes, 0); break;
    case 2: replace(at, 0, bytes, size); break;
    case 3: answer_size = at; break;
    case 4:
      store_u32(bytes, LENGTHS[below(12)] + below(3));
      replace(at, 4, bytes, 4);
      break;
    default:
      size = below(sizeof bytes);
      if (size > answer_size - at) size = answer_size - at;
      memcpy(bytes, answer + at, size);
      replace(below((uint32_t)answer_size + 1), 0, bytes, size);
  }
}

/* --- what it does with it --------------------------------------------------------------------------------------- */

static void check(bool fine, const char *what, uint64_t round) {
  if (fine) return;
  fprintf(stderr, "round %llu: %s\n", (unsigned long long)round, what);
  abort();
}

/* Exactly the error object that `fail` prints. */
static bool is_error(const char *text, size_t size) {
  int code = 0, head = 0;
  if (sscanf(text, "{\"cniVersion\":\"1.1.0\",\"code\":%d,\"msg\":\"%n", &code, &head) != 1 || head == 0) return false;
  const char *at = text + head, *end = text + size - 3;
  while (at < end) {
    if (*at < ' ' || *at > '~' || *at == '"') return false;
    if (*at != '\\') at++;
    else if (strspn(at + 2, "0123456789abcdef") < 4 || at[1] != 'u') return false;
    else at += 6;
  }
  return at == end && strcmp(end, "\"}\n") == 0;
}

static size_t printed(char *text, size_t size) {
  off_t length = lseek(STDOUT_FILENO, 0, SEEK_CUR);
  ssize_t got = pread(STDOUT_FILENO, text, size - 1, 0);
  text[got > 0 ? got : 0] = '\0';
  return (size_t)length;
}

static void empty(int fd) {
  check(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0, "a file cannot be emptied", 0);
}

static void random_environment(void) {
  static const char *const NAMES[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"};
  static char value[20001];
  size_t size = below(40) == 0 ? below(20000) : below(40);
  for (size_t i = 0; i < size; i++) value[i] = (char)(1 + below(255));
  value[size] = '\0';
  setenv(NAMES[below(5)], value, 1);
}

/* The request must be made of whole fields, the last of them the input. */
static void try_request(uint64_t round) {
  static unsigned char input[5000];
  size_t size = below(sizeof input);
  random_bytes(input, size);
  empty(STDIN_FILENO);
  check(write_all(STDIN_FILENO, input, size) && lseek(STDIN_FILENO, 0, SEEK_SET) == 0, "no input", round);
  random_environment();
  request.size = 0;
  check(setjmp(start) == 0, "a request is refused", round);
  build_request("flannel");
  check(request.data[0] == REQUEST && load_u32(request.data + 1) == request.size - HEAD, "a wrong head", round);
  struct buffer fields = {request.data + HEAD, request.size - HEAD, 0};
  struct block block = {0};
  for (size_t at = 0; next_block(&fields, &at, &block);) continue;
  check(block.kind == INPUT && block.size == size && memcmp(block.data, input, size) == 0, "another input", round);
}

static void try_answer(uint64_t round) {
  static char text[4096];
  int ends[2];
  make_answer();
  for (uint32_t mutations = below(6); mutations > 0; mutations--) mutate();
  empty(STDOUT_FILENO);
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket", round);
  check(write_all(ends[1], answer, answer_size) && shutdown(ends[1], SHUT_WR) == 0, "no answer", round);
  if (setjmp(start) == 0) {
    int status = ask(ends[0]);
    check(status >= -1 && status <= 255, "no exit status", round);
  } else {
    check(failed_with == 1 && is_error(text, printed(text, sizeof text)), "no error object", round);
  }
  /* Those too that a failure has left open, for the end of the process to close. */
  for (int fd = 3; fd < LOG; fd++) close(fd);
}

int main(int argc, char **argv) {
  assert(argc == 4);
  state = strtoull(argv[1], NULL, 10) * 2 + 1;
  uint64_t rounds = strtoull(argv[2], NULL, 10), round = 0;
  self = getpid();
  received = (struct buffer){small_space, 0, sizeof small_space};
  signal(SIGPIPE, SIG_IGN);
  setenv("CNI_PATH", argv[3], 1);
  for (int stream = 0; stream < 2; stream++) dup2(memfd_create("stream", 0), stream);
  dup2(open("/dev/null", O_WRONLY), LOG);
  for (; round < rounds; round++) {
    alarm(20);
    try_request(round);
    try_answer(round);
  }
  fprintf(stderr, "%llu rounds\n", (unsigned long long)round);
  return 0;
}
