// The policy source without a server: a directory of manifests. It is looked at when the kernel says that something in it
// has changed, and every so often besides, since links may lead elsewhere and not every file system tells.
//
// A file that can't be understood says what it said when it could be; until then nothing is told at all. So a half-written file
// takes nothing out of force. Files are best replaced by renaming: a half of one may well be a manifest.

import { type FSWatcher, type WatchListener, watch } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { readRegular, listDirectory, statAt } from '../../kernel/files.ts';
import { NetError } from '../../model/errors.ts';
import { type Clock, sleep } from '../clock.ts';
import { type Manifests, mergeManifests, readManifests } from './documents.ts';
import { keyOf } from './objects.ts';
import type { PolicySource } from './source.ts';

const LOOK_MS = 1000;
/** Between an event and the look: a file that is replaced makes several. */
const SETTLE_MS = 1;
const MOST_BYTES = 1 << 24;
/** The files of a mounted ConfigMap are links through one that begins so and is replaced. */
const LINKED = '..';
const NAME = /^[^.].*\.(ya?ml|json)$/;

interface Known {
  /** Differs when the file has changed. */
  readonly stamp: string;
  /** Undefined: it was never understood. */
  readonly manifests: Manifests | undefined;
  readonly error: unknown;
}

/** The manifests in a directory: files that end with .yaml, .yml or .json, not those below it. */
export function directorySource(directory: string, clock: Clock): PolicySource {
  let files = new Map<string, Known>();

  /**
   * Whether anything has changed since the last time, in the files by these names or, undefined, in any.
   * @throws NetError io, file-unreadable
   */
  function look(names: readonly string[] | undefined): boolean {
    if (statAt(directory)?.isDirectory() !== true) throw missing(directory);
    const before = files;
    const looked = (names ?? listDirectory(directory)).filter((name) => NAME.test(name)).sort();
    const kept = [...before].filter(([name]) => names !== undefined && !looked.includes(name));
    files = new Map([...kept, ...looked.flatMap((name) => entry(name, before.get(name)))]);
    return files.size !== before.size || looked.some((name) => files.get(name) !== before.get(name));
  }

  function entry(name: string, before: Known | undefined): [string, Known][] {
    const path = join(directory, name);
    const stamp = stampOf(path);
    if (stamp === undefined) return [];
    if (stamp === before?.stamp) return [[name, before]];
    try {
      const manifests = keepingEqual(readFile(path), before?.manifests);
      return [[name, { stamp, manifests, error: undefined }]];
    } catch (error) {
      return [[name, { stamp, manifests: before?.manifests, error }]];
    }
  }

  return {
    title: `directory ${directory}`,
    async watch({ onObjects, onTrouble }, signal) {
      let told = false;
      await untilAborted(directory, clock, signal, (names) => {
        try {
          if (!look(names) && told) return;
          const all = [...files.values()];
          const errors = all.map(({ error }) => error).filter((error) => error !== undefined);
          const complete = all.every(({ manifests }) => manifests !== undefined);
          if (complete) {
            onObjects(mergeManifests(all.map(({ manifests }) => manifests as Manifests)));
            told = true;
          }
          onTrouble(errors[0]);
        } catch (error) {
          onTrouble(error);
        }
      });
    },
  };
}

/** What says the same as before is the same object: whoever compiles it need not do so again. */
function keepingEqual(now: Manifests, before: Manifests | undefined): Manifests {
  const keep = <T>(items: readonly T[], old: readonly T[] = [], nameOf: (item: T) => string): T[] => {
    const known = new Map(old.map((item) => [nameOf(item), item]));
    return items.map((item) => {
      const same = known.get(nameOf(item));
      return same !== undefined && isDeepStrictEqual(item, same) ? same : item;
    });
  };
  return {
    file: now.file,
    namespaces: keep(now.namespaces, before?.namespaces, ({ name }) => name),
    pods: keep(now.pods, before?.pods, keyOf),
    policies: keep(now.policies, before?.policies, keyOf),
  };
}

const missing = (directory: string): NetError =>
  new NetError('file-unreadable', `--policy-source=dir:${directory}: there is no such directory`, {
    subject: directory,
  });

function stampOf(path: string): string | undefined {
  const found = statAt(path);
  return found?.isFile() ? [found.ino, found.size, found.mtimeMs, found.ctimeMs].join(' ') : undefined;
}

function readFile(path: string): Manifests {
  const text = readRegular(path, { followLink: true, maxBytes: MOST_BYTES });
  if (text !== undefined) return readManifests(text, path);
  throw new NetError('file-unreadable', `${path} is no file of at most ${MOST_BYTES} bytes`, { subject: path });
}

/** What is to be looked at; undefined: everything. */
type Look = (names: readonly string[] | undefined) => void;

/** Calls a function now and once a second for all files, and after events in the directory for those that they name. */
async function untilAborted(directory: string, clock: Clock, signal: AbortSignal, look: Look): Promise<void> {
  let watcher: FSWatcher | undefined;
  let named: Set<string | null> = new Set();
  const soon = (_: string, name: string | null) => {
    const isFirst = named.size === 0;
    named.add(name);
    if (!isFirst || signal.aborted) return;
    clock.after(SETTLE_MS, () => {
      const names = [...named].filter((each) => each !== null);
      const isAny = names.length < named.size || names.some((each) => each.startsWith(LINKED));
      named = new Set();
      if (!signal.aborted) look(isAny ? undefined : names);
    });
  };
  const close = () => {
    watcher?.close();
    watcher = undefined;
  };
  while (!signal.aborted) {
    watcher ??= watching(directory, soon, close);
    look(undefined);
    await sleep(clock, LOOK_MS, signal);
  }
  close();
}

/** Undefined where there is no directory, or no more watches are to be had: then it is looked at every so often. */
function watching(directory: string, onEvent: WatchListener<string>, onEnd: () => void): FSWatcher | undefined {
  try {
    return watch(directory, { persistent: false }, onEvent).on('error', onEnd);
  } catch {
    return undefined;
  }
}
