/* Executes plugins as a container runtime does and says how long each took, with as little of its own as possible: vfork,
 * execve, wait4. Jobs come from standard input, strings ended by NUL:
 *
 *   PARALLEL  then for each job  INPUT-FILE  OUTPUT-FILE  N  N words: program, arguments  N  N environment strings
 *
 * One line for each job, in the order of their ends:  JOB WALL-NS USER-US SYSTEM-US STATUS  */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 64
#define MAX_PARALLEL 256

struct job {
  char *input, *output, *words[MAX_WORDS + 1], *environment[MAX_WORDS + 1];
};

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static char *next(FILE *from) {
  char *text = NULL;
  size_t capacity = 0;
  return getdelim(&text, &capacity, '\0', from) < 0 ? NULL : text;
}

static void read_list(FILE *from, char **list) {
  const char *number = next(from);
  int count = number == NULL ? -1 : atoi(number);
  if (count < 0 || count > MAX_WORDS) {
    fputs("exec-timer: malformed job\n", stderr);
    exit(2);
  }
  for (int i = 0; i < count; i++) list[i] = next(from);
  list[count] = NULL;
}

static int read_job(FILE *from, struct job *job) {
  if ((job->input = next(from)) == NULL) return 0;
  job->output = next(from);
  read_list(from, job->words);
  read_list(from, job->environment);
  return 1;
}

static pid_t start(const struct job *job) {
  int in = open(job->input, O_RDONLY | O_CLOEXEC);
  int out = open(job->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (in < 0 || out < 0) return perror(in < 0 ? job->input : job->output), exit(2), 0;
  pid_t child = vfork();
  if (child == 0) {
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execve(job->words[0], job->words, job->environment);
    _exit(127);
  }
  close(in);
  close(out);
  return child;
}

int main(void) {
  const char *first = next(stdin);
  int parallel = first == NULL ? 0 : atoi(first);
  if (parallel < 1 || parallel > MAX_PARALLEL) return fputs("exec-timer: PARALLEL must be 1 to 256\n", stderr), 2;
  struct job *jobs = NULL;
  size_t count = 0;
  for (;;) {
    jobs = realloc(jobs, (count + 1) * sizeof *jobs);
    if (jobs == NULL) return perror("exec-timer"), 2;
    if (!read_job(stdin, &jobs[count])) break;
    count++;
  }
  struct { pid_t pid; size_t job; int64_t began; } running[MAX_PARALLEL];
  size_t started = 0, active = 0;
  while (started < count || active > 0) {
    for (; started < count && active < (size_t)parallel; started++, active++) {
      running[active].began = now_ns();
      running[active].job = started;
      running[active].pid = start(&jobs[started]);
    }
    int status;
    struct rusage usage;
    pid_t ended = wait4(-1, &status, 0, &usage);
    if (ended < 0 && errno == EINTR) continue;
    int64_t end = now_ns();
    for (size_t i = 0; i < active; i++) {
      if (running[i].pid != ended) continue;
      printf("%zu %lld %lld %lld %d\n", running[i].job, (long long)(end - running[i].began),
             (long long)usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec,
             (long long)usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec,
             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
      running[i] = running[--active];
      break;
    }
  }
  return 0;
}
