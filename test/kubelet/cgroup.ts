// The control groups of a test's nodes: one directory in each hierarchy of this machine. Runtimes make theirs below the group
// of containerd, and nothing that ends takes them away.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';
/** How long processes that have been killed may take to leave their groups. */
const REMOVE_SECONDS = 30;

/** Directories of version 1, or the one of version 2. */
const hierarchies = (): string[] =>
  existsSync(join(ROOT, 'cgroup.procs'))
    ? [ROOT]
    : readdirSync(ROOT, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && existsSync(join(ROOT, entry.name, 'cgroup.procs')))
        .map(({ name }) => join(ROOT, name));

/** Words: a group's name, directories, "--", a command. A cpuset of version 1 takes nobody in until it has something. */
const JOIN = `name=$1; shift
while [ "$1" != -- ]; do
  mkdir -p "$1/$name"
  for group in "$1" "$1/$name"; do
    [ -e "$group/cgroup.clone_children" ] && [ -e "$group/cpuset.mems" ] || continue
    cat "\${group%/*}/cpuset.cpus" >"$group/cpuset.cpus"
    cat "\${group%/*}/cpuset.mems" >"$group/cpuset.mems"
  done
  echo 0 >"$1/$name/cgroup.procs"
  shift
done
shift
exec "$@"`;

/** Words: directories. Waits for the end of its standard input. */
const REMOVE = `cat >/dev/null
tries=0
while [ "$tries" -lt $((5 * SECONDS_LEFT)) ]; do
  left=
  for path; do [ ! -d "$path" ] || left=1; find "$path" -depth -type d -exec rmdir {} + 2>/dev/null; done
  [ "$left" ] || exit 0
  tries=$((tries + 1))
  sleep 0.2
done
exit 1`;

export interface ControlGroup {
  /** Words before a command that then runs in the group of this name. */
  within(name: string): string[];
  /** Once its processes have been killed. @throws Error when some of it stays */
  remove(): Promise<void>;
}

/** Goes away when this process does, however that ends. */
export function makeControlGroup(): ControlGroup {
  const name = `flannel-test-${randomUUID()}`;
  const paths = hierarchies().map((hierarchy) => join(hierarchy, name));
  const remover: ChildProcess = spawn('sh', ['-c', REMOVE, 'sh', ...paths], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { ...process.env, SECONDS_LEFT: String(REMOVE_SECONDS) },
    detached: true,
  });
  return {
    within: (group) => ['sh', '-ec', JOIN, 'sh', group, ...paths, '--'],
    async remove() {
      const ended = once(remover, 'exit');
      remover.stdin?.end();
      const [code] = await ended;
      if (code !== 0) throw new Error(`control groups that stay: ${paths.filter(existsSync).join(' ')}`);
    },
  };
}
