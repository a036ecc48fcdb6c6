// A cluster that --keep left: its machines' processes, written down so that --down finds exactly these.

import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Cluster } from '../cluster/cluster.ts';
import { endPid } from '../cluster/machine.ts';

const FILE = fileURLToPath(new URL('../../build/demo.json', import.meta.url));

interface Kept {
  readonly machines: readonly { readonly name: string; readonly pid: number; readonly started: string }[];
  readonly logs: string;
}

/** The time a process was started, which a reused pid doesn't share (proc(5), stat field 22). */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

export function remember({ machines, logs }: Cluster): void {
  mkdirSync(new URL('.', `file://${FILE}`), { recursive: true });
  const kept: Kept = { machines: machines.map(({ name, pid }) => ({ name, pid, started: startOf(pid) ?? '' })), logs };
  writeFileSync(FILE, JSON.stringify(kept));
}

/** Ends every process of the kept machines. Gives how many machines there were. */
export async function removeKept(): Promise<number> {
  let kept: Kept;
  try {
    kept = JSON.parse(readFileSync(FILE, 'utf8')) as Kept;
  } catch {
    return 0;
  }
  const holders = kept.machines.filter(({ pid, started }) => startOf(pid) === started);
  const spaces = new Set(holders.map(({ pid }) => readlinkSync(`/proc/${pid}/ns/mnt`)));
  await Promise.all(processesIn(spaces).map((pid) => endPid(pid)));
  rmSync(kept.logs, { recursive: true, force: true });
  rmSync(FILE);
  return holders.length;
}

/** Everything that runs in one of these mount namespaces. */
function processesIn(spaces: ReadonlySet<string>): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        return spaces.has(readlinkSync(`/proc/${entry}/ns/mnt`));
      } catch {
        return false;
      }
    })
    .map(Number);
}
