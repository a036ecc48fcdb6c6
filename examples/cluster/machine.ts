// A machine of the practice cluster: a process that holds a network, mount and host-name namespace with its own /run and
// /var/lib. Everything in it, pods included, is gone when its processes are. A machine whose daemons start processes that
// outlive them has a process namespace too: it ends with the machine, whatever runs in it.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface Machine {
  readonly name: string;
  /** Of the process that holds the namespaces: nsenter -t PID -m -n -u. */
  readonly pid: number;
  /** Runs a command in it to its end. The exit code is for the caller to judge. */
  run(command: string, args?: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** Runs a command that must succeed. @throws Error with what it printed */
  must(command: string, args?: readonly string[], options?: RunOptions): Promise<string>;
  /** Starts a command that stays. It ends with the machine. */
  start(
    command: string,
    args: readonly string[],
    options?: Pick<RunOptions, 'env'> & { readonly log?: number | 'pipe' },
  ): ChildProcess;
  stop(): Promise<void>;
}

export interface MachineOptions {
  /** Outlives this process. */
  readonly keep?: boolean | undefined;
  /** Its own processes only, in a /proc of its own. */
  readonly ownProcesses?: boolean | undefined;
}

const SETUP = [
  'mount -t tmpfs tmpfs /run',
  'mkdir -p /run/netns /run/lock',
  'mount -t tmpfs tmpfs /var/lib',
  'hostname "$0"',
  'ip link set lo up',
  'echo ready',
  'exec sleep infinity',
].join(' && ');

/** Children that must not outlive this process, however it ends; the kernel sees to it. */
const bound = (keep: boolean): string[] => (keep ? [] : ['setpriv', '--pdeathsig', 'KILL']);

/** Makes a machine. @throws Error when the namespaces can't be made (not root?) */
export async function startMachine(
  name: string,
  { keep = false, ownProcesses = false }: MachineOptions = {},
): Promise<Machine> {
  const [command, ...args] = [
    ...bound(keep),
    'unshare',
    '--mount',
    '--net',
    '--uts',
    '--propagation',
    'private',
    ...(ownProcesses ? ['--pid', '--fork', '--kill-child', '--mount-proc'] : []),
    'sh',
    '-c',
    SETUP,
    name,
  ];
  const holder = spawn(command as string, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: keep });
  await ready(holder, `start machine ${name}`);
  if (keep) {
    holder.stdout?.destroy();
    holder.stderr?.destroy();
    holder.unref();
  }
  return machineOf(name, holder.pid as number, { keep, ownProcesses });
}

async function ready(holder: ChildProcess, attempt: string): Promise<void> {
  let text = '';
  let trouble = '';
  holder.stderr?.on('data', (chunk) => {
    trouble += chunk;
  });
  const failed = once(holder, 'exit').then(([code]) => {
    throw new Error(`${attempt}: exit code ${code}: ${trouble.trim()}`);
  });
  failed.catch(() => undefined);
  for await (const chunk of holder.stdout ?? []) {
    text += chunk;
    if (text.includes('ready')) return;
  }
  await failed;
}

/** The machine that a process holds. */
function machineOf(name: string, pid: number, { keep = false, ownProcesses = false }: MachineOptions): Machine {
  const children = new Set<ChildProcess>();
  const enter = (command: string, args: readonly string[]) => [
    ...bound(keep),
    'nsenter',
    '-t',
    String(pid),
    '-m',
    '-n',
    '-u',
    // Its holder lives outside of it: only children are inside. So does nsenter, which a signal to the command reaches.
    ...(ownProcesses ? [`--pid=/proc/${pid}/ns/pid_for_children`] : []),
    '--',
    ...(ownProcesses ? bound(keep) : []),
    command,
    ...args,
  ];

  async function run(
    command: string,
    args: readonly string[] = [],
    { input, env, timeoutMs = 30_000 }: RunOptions = {},
  ): Promise<Outcome> {
    const [first, ...rest] = enter(command, args);
    const child = spawn(first as string, rest, {
      env: { ...process.env, ...env },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    const outcome = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => (outcome.stdout += chunk));
    child.stderr.on('data', (chunk) => (outcome.stderr += chunk));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input ?? '');
    const [code] = (await once(child, 'close')) as [number | null];
    return { code: code ?? -1, ...outcome };
  }

  async function must(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await run(command, args, options);
    if (code === 0) return stdout;
    throw new Error(`${name}: ${command} ${args.join(' ')}: exit code ${code}: ${(stderr + stdout).trim()}`);
  }

  function start(
    command: string,
    args: readonly string[],
    { env, log = 'pipe' }: Pick<RunOptions, 'env'> & { log?: number | 'pipe' } = {},
  ): ChildProcess {
    const [first, ...rest] = enter(command, args);
    const child = spawn(first as string, rest, {
      env: { ...process.env, ...env },
      stdio: [log === 'pipe' ? 'pipe' : 'ignore', log, log],
      detached: keep,
    });
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
  }

  async function stop(): Promise<void> {
    await Promise.all([...children].map((child) => endChild(child)));
    await endPid(pid);
  }

  return { name, pid, run, must, start, stop };
}

/** Asks a child to end, then ends it. Bounded by `graceMs`. Gives its exit code, or null for a signal. */
export async function endChild(child: ChildProcess, graceMs = 5_000): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, 'exit') as Promise<[number | null]>;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  const [code] = await ended;
  clearTimeout(timer);
  return code;
}

/** Ends a process that is no child of ours and waits until it is gone. */
export async function endPid(pid: number, graceMs = 5_000): Promise<void> {
  for (let waited = 0; waited < graceMs && alive(pid); waited += 10) {
    process.kill(pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
