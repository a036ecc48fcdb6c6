// The policy source without a server: a directory of manifests. It is looked at when the kernel says that something in it
// has changed, and every so often besides, since links may lead elsewhere and not every file system tells.
//
// A file that can't be understood says what it said when it could be; until then nothing is told at all. So a half-written file
// takes nothing out of force. Files are best replaced by renaming: a half of one may well be a manifest.

import { type FSWatcher, watch } from 'node:fs';
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
const SETTLE_MS = 3;
const MOST_BYTES = 1 << 24;
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

  /** Whether anything has changed since the last time. @throws NetError io, file-unreadable */
  function look(): boolean {
    if (statAt(directory)?.isDirectory() !== true) throw missing(directory);
    const names = listDirectory(directory)
      .filter((name) => NAME.test(name))
      .sort();
    const now = new Map(names.flatMap((name) => entry(name, files.get(name))));
    const changed = now.size !== files.size || [...now].some(([name, known]) => files.get(name) !== known);
    files = now;
    return changed;
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
      await untilAborted(directory, clock, signal, () => {
        try {
          if (!look() && told) return;
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

/** Calls a function now, after every event in the directory and once a second. */
async function untilAborted(directory: string, clock: Clock, signal: AbortSignal, look: () => void): Promise<void> {
  let watcher: FSWatcher | undefined;
  let pending = false;
  const soon = () => {
    if (pending || signal.aborted) return;
    pending = true;
    clock.after(SETTLE_MS, () => {
      pending = false;
      if (!signal.aborted) look();
    });
  };
  const close = () => {
    watcher?.close();
    watcher = undefined;
  };
  while (!signal.aborted) {
    watcher ??= watching(directory, soon, close);
    look();
    await sleep(clock, LOOK_MS, signal);
  }
  close();
}

/** Undefined where there is no directory, or no more watches are to be had: then it is looked at every so often. */
function watching(directory: string, onEvent: () => void, onEnd: () => void): FSWatcher | undefined {
  try {
    return watch(directory, { persistent: false }, onEvent).on('error', onEnd);
  } catch {
    return undefined;
  }
}
