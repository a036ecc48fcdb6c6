// Network namespaces for one test, with fresh names; they are gone when the test is over, however it ends.

import { spawnSync } from 'node:child_process';
import type { Test } from 'tap';

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** A network namespace with a path that others can open. */
export interface TestNamespace {
  readonly name: string;
  readonly path: string;
  /** Runs a command inside, with this process's files. The status is for the caller to judge. */
  run(command: string, args: readonly string[], options?: RunOptions): Ran;
  /** Runs a command line of plain words that must succeed, and returns what it printed. */
  must(line: string): string;
  /** Takes the path away before the test ends. Equivalent to: ip netns delete */
  remove(): void;
}

let made = 0;

/** Makes a namespace with its loopback device up. Equivalent to: ip netns add */
export function makeNamespace(t: Test, label: string): TestNamespace {
  const name = `ft${process.pid}-${made++}-${label}`;
  mustRun('ip', ['netns', 'add', name]);
  const namespace = namespaceOf(name);
  t.teardown(() => namespace.remove());
  namespace.must('ip link set lo up');
  return namespace;
}

function namespaceOf(name: string): TestNamespace {
  const path = `/run/netns/${name}`;
  const run = (
    command: string,
    args: readonly string[],
    { env = process.env as Record<string, string>, input }: RunOptions = {},
  ): Ran =>
    spawnSync('nsenter', [`--net=${path}`, command, ...args], {
      env,
      ...(input !== undefined && { input }),
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
  return {
    name,
    path,
    run,
    must(line) {
      const [command = '', ...args] = line.split(' ');
      return judged(line, run(command, args));
    },
    remove: () => void spawnSync('ip', ['netns', 'delete', name]),
  };
}

/** Names of the devices in a namespace. */
export const linksOf = (namespace: TestNamespace): string[] =>
  (JSON.parse(namespace.must('ip -j link show')) as { ifname: string }[]).map(({ ifname }) => ifname).sort();

const mustRun = (command: string, args: readonly string[]): string =>
  judged([command, ...args].join(' '), spawnSync(command, args, { encoding: 'utf8' }));

function judged(line: string, { status, stdout, stderr }: Ran): string {
  if (status !== 0) throw new Error(`${line}: exit status ${status}: ${stderr.trim()}`);
  return stdout;
}
