// Where a worker runs its rows, one after the other. Plugins that work alone get a fresh machine for every row. An agent
// takes longer to start than a row takes, so one with an agent is kept and swept between rows, until a row fails on it.

import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CniVersion } from '../../cni-plugin/versions.ts';
import { type Machine, startMachine } from '../../examples/cluster/machine.ts';
import { CACHE, PLUGINS, type Stage, stageOn } from './stage.ts';
import type { Target } from './target.ts';

export interface Lane {
  /** Runs the action on a stage. @throws what it throws */
  run(version: CniVersion, action: (stage: Stage) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

const SOCKET = '/run/flannel/cni.sock';
const START_MS = 30_000;

/** Whatever a row may have made: pods, links, rules, files. What the agent keeps in memory must survive that. */
const SWEEP = `
  ip -all netns delete
  ip -o link show | sed -n 's/^[0-9]*: \\([^:@]*\\).*/link delete \\1/p' | grep -v ' lo$' | ip -force -batch - 2>/dev/null || :
  nft flush ruleset
  rm -rf /var/lib/cni /run/resolv.conf ${PLUGINS}`;

interface Served {
  readonly machine: Machine;
  /** Absent: the plugins work alone. */
  readonly agent?: ChildProcess;
}

async function serve(machine: Machine, { directory }: Target): Promise<Served> {
  const agent = machine.start(join(directory, 'flanneld'), ['--cni-only'], { env: CACHE });
  let said = '';
  for (const stream of [agent.stdout, agent.stderr])
    stream?.on('data', (chunk) => (said = `${said}${chunk}`.slice(-2000)));
  const path = `/proc/${machine.pid}/root${SOCKET}`;
  for (const deadline = Date.now() + START_MS; !existsSync(path); await sleep(10)) {
    if (agent.exitCode === null && Date.now() < deadline) continue;
    await machine.stop();
    throw new Error(`the agent does not serve: ${said}`);
  }
  return { machine, agent };
}

/** @throws Error when an agent is asked for and does not serve */
export function laneOf(target: Target): Lane {
  let kept: Served | undefined;

  async function fresh(): Promise<Served> {
    const machine = await startMachine('conformance');
    return target.agent ? serve(machine, target) : { machine };
  }

  async function close(): Promise<void> {
    await kept?.machine.stop();
    kept = undefined;
  }

  /** Without its agent a plugin works alone, and nobody would notice. */
  async function sweep({ machine, agent }: Served): Promise<void> {
    if (agent === undefined) return close();
    if (agent.exitCode !== null || agent.signalCode !== null) throw new Error('the agent has ended');
    await machine.must('sh', ['-ec', SWEEP]);
  }

  async function run(version: CniVersion, action: (stage: Stage) => Promise<void>): Promise<void> {
    kept ??= await fresh();
    try {
      await action(stageOn(kept.machine, target, version));
      await sweep(kept);
    } catch (error) {
      await close();
      throw error;
    }
  }

  return { run, close };
}
