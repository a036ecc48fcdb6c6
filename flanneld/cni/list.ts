// The CNI list of this node, by which a container runtime finds out that there is a pod network: kubelet calls a node
// ready because of it. So it appears when pods can be attached and not before, whole, and is put back like everything
// else that the agent keeps. A stop leaves it: attached pods still have to be detached by it.

import { basename } from 'node:path';
import { readRegular, writeWhole } from '../../kernel/files.ts';
import { describe, NetError } from '../../model/errors.ts';
import type { Agent } from '../agent.ts';
import { type Clock, sleep } from '../clock.ts';
import type { Log } from '../log.ts';

/** Among the lists of a directory runtimes take the first by name; flannel's has this one. */
export const LIST_NAME = '10-flannel.conflist';

/** Between two looks at agent and file. */
const LOOK_MS = 1000;
const MOST_BYTES = 1 << 20;

/**
 * The text of a CNI list that a runtime will be able to read.
 * @throws NetError file-unreadable; invalid-config naming what is wrong in the file
 */
export function readCniList(path: string): string {
  const text = readRegular(path, { maxBytes: MOST_BYTES, followLink: true });
  if (text === undefined) {
    throw new NetError('file-unreadable', `read the CNI list ${path}: no such file`, {
      errno: 'ENOENT',
      subject: path,
    });
  }
  const fault = faultOf(text);
  if (fault === undefined) return text;
  throw new NetError('invalid-config', `CNI list ${path}: ${fault}`, { subject: path });
}

/** What every runtime asks of a list: CNI specification 1.1.0, "Network configuration format". */
function faultOf(text: string): string | undefined {
  const list = parsed(text);
  if (!isObject(list)) return 'expected a JSON object';
  for (const key of ['name', 'cniVersion']) if (typeof list[key] !== 'string') return `${key}: expected a text`;
  const { plugins } = list;
  if (!Array.isArray(plugins) || plugins.length === 0) return 'plugins: expected at least one';
  const bare = plugins.findIndex((plugin) => !isObject(plugin) || typeof plugin.type !== 'string');
  return bare < 0 ? undefined : `plugins[${bare}].type: expected a text`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export interface CniListDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** What the file has to contain. */
  readonly text: string;
  /** Path of the file, in a directory that is there. */
  readonly target: string;
}

export interface CniList {
  /** Keeps the file until the signal aborts, from the moment that `ready` says so on. Never throws. */
  run(ready: () => boolean, signal: AbortSignal): Promise<void>;
  /** Why the file could not be written. */
  trouble(): string | undefined;
}

export function createCniList({ clock, log, text, target }: CniListDeps): CniList {
  let trouble: string | undefined;

  function put(): void {
    if (readRegular(target, { maxBytes: MOST_BYTES }) === text) return;
    writeWhole(target, text, { mode: 0o644 });
    log.info({}, `wrote the CNI list ${target}`);
  }

  function tryPut(): void {
    try {
      put();
      trouble = undefined;
    } catch (error) {
      const why = `write the CNI list ${basename(target)}: ${describe(error)}`;
      if (why !== trouble) log.warn({}, why);
      trouble = why;
    }
  }

  return {
    async run(ready, signal) {
      let begun = false;
      while (!signal.aborted) {
        begun ||= ready();
        if (begun) tryPut();
        await sleep(clock, LOOK_MS, signal);
      }
    },
    trouble: () => trouble,
  };
}

/** An agent that keeps the list too: ready once the node can say so. */
export const withCniList = (agent: Agent, list: CniList): Agent => ({
  async run(signal) {
    const ended = new AbortController();
    const keeping = list.run(() => agent.unreadiness() === undefined, AbortSignal.any([signal, ended.signal]));
    try {
      await agent.run(signal);
    } finally {
      ended.abort();
      await keeping;
    }
  },
  unreadiness: () => agent.unreadiness() ?? list.trouble(),
  remarks: agent.remarks,
  examine: agent.examine,
  status() {
    const status = agent.status();
    const reason = status.reason ?? list.trouble();
    return { ...status, ready: reason === undefined, reason };
  },
});
