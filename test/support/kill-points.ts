// Where to kill a process between two of its effects: a run of it is recorded with strace, then repeated once for each
// system call, before which it is killed.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

/** The nth call of this name, counted from when the recording began. */
export interface KillPoint {
  readonly call: string;
  readonly nth: number;
}

/** What changes a file, a namespace or the kernel's tables, and what is done on the way there; those a machine has. */
const CALLS =
  '?open,?mkdir,?rename,?link,?unlink,?chmod,openat,mkdirat,renameat,renameat2,linkat,unlinkat,write,pwrite64,sendto,' +
  'sendmsg,setns,flock,fchmod,bind,?fsync,?fdatasync,?sync_file_range,?syncfs';

/** Whose recording this is: a running process's main thread, or a program from its start. */
export type Traced = { readonly pid: number } | { readonly program: readonly string[] };

/** strace and its arguments, for recording into a file or for killing at a point. */
export function straceWords(traced: Traced, what: { readonly record: string } | KillPoint): string[] {
  const [calls, more] =
    'record' in what
      ? [CALLS, ['-o', what.record]]
      : [what.call, ['-o', '/dev/null', '-e', `inject=${what.call}:signal=SIGKILL:when=${what.nth}`]];
  return [
    'strace',
    ...more,
    '-e',
    `trace=${calls}`,
    ...('pid' in traced ? ['-p', String(traced.pid)] : traced.program),
  ];
}

/** Attaches to a running process, and resolves when nothing that it does is missed any more. @throws Error */
export async function attachStrace(words: readonly string[]): Promise<ChildProcess> {
  const [program = '', ...rest] = words;
  const child = spawn(program, rest, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  for await (const chunk of child.stderr ?? []) {
    said += chunk;
    if (!said.includes('attached')) continue;
    child.stderr?.resume();
    return child;
  }
  throw new Error(`strace: ${said}`);
}

/** Lets go of the process. */
export async function detachStrace(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGINT');
  await once(child, 'exit');
}

const SIGKILL_BIT = 1n << 8n;
/** PF_EXITING of linux/sched.h, in the flags of /proc/PID/stat: the signal is no longer pending, and the process not yet dead. */
const EXITING = 0x4;

/** Whether a child of this process, which nobody traces any more, is dead or about to be: killed after it had answered. */
export function isDying(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s+([0-9a-f]+)$/gm)];
    if (/^State:\s+[ZX]/m.test(status) || pending.some(([, bits]) => (BigInt(`0x${bits}`) & SIGKILL_BIT) !== 0n))
      return true;
    const [, , , , , , flags] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return (Number(flags) & EXITING) !== 0;
  } catch {
    return true;
  }
}

/** Every call from the first effect to the one after the last, of a recording of one verb. */
export function killPoints(recorded: string): KillPoint[] {
  const seen = new Map<string, number>();
  const lines = recorded.split('\n').filter((line) => /^\w+\(/.test(line));
  const points = lines.map((line) => {
    const call = line.slice(0, line.indexOf('('));
    const nth = (seen.get(call) ?? 0) + 1;
    seen.set(call, nth);
    return { call, nth };
  });
  const effect = (line: string) => /^(mkdir|rename|link|unlink)|O_CREAT/.test(line) && line.includes('/var/lib/cni');
  return points.slice(lines.findIndex(effect), lines.findLastIndex(effect) + 2);
}
