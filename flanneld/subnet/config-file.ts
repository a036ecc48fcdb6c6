// The network configuration from a file (--net-config-path), read and followed. It is looked at several times a second, since
// changes made by other machines to a shared file are told to nobody.

import { realpathSync } from 'node:fs';
import { readRegular, statAt, statIfThere } from '../../kernel/files.ts';
import { NetError } from '../../model/errors.ts';
import { sleep, systemClock } from '../clock.ts';
import { whenNew } from './pauses.ts';

const LOOK_MS = 200;
const MOST_BYTES = 1 << 24;
/** The stamp of a file that isn't there. */
export const ABSENT = 'absent';

/** Where a link leads, so that the file it means is replaced and not the link. */
export const realPath = (path: string): string => (statIfThere(path)?.isSymbolicLink() ? realpathSync(path) : path);

/** Differs when the file has changed. */
export function stampOf(path: string): string {
  const found = statIfThere(realPath(path));
  return found === undefined ? ABSENT : [found.ino, found.size, found.mtimeMs, found.ctimeMs].join(' ');
}

const readIfThere = (path: string): string | undefined => readRegular(path, { followLink: true, maxBytes: MOST_BYTES });

/** @throws NetError no-network-config, io */
export function readConfigFile(path: string): string {
  const text = readIfThere(path);
  if (text !== undefined) return text;
  const problem = statAt(path) === undefined ? 'there is no such file' : `no file of at most ${MOST_BYTES} bytes`;
  throw new NetError('no-network-config', `--net-config-path ${path}: ${problem}`, { subject: path });
}

/** As SubnetManager.watchConfig. */
export const watchConfigFile = (
  path: string,
  signal: AbortSignal,
  report: (trouble: unknown) => void,
): AsyncGenerator<string | undefined> =>
  whenChanged(
    () => stampOf(path),
    () => readIfThere(path),
    signal,
    report,
  );

/**
 * What `tell` makes of what `look` sees, each time that this is another than before. Troubles are reported when they
 * are new.
 */
export async function* whenChanged<S, T>(
  look: () => S,
  tell: (seen: S) => T,
  signal: AbortSignal,
  report: (trouble: unknown) => void,
): AsyncGenerator<T> {
  const trouble = whenNew(report);
  let told: S | undefined;
  while (!signal.aborted) {
    try {
      const seen = look();
      if (seen !== told) yield tell(seen);
      trouble(undefined);
      told = seen;
    } catch (error) {
      told = undefined;
      trouble(error);
    }
    await sleep(systemClock, LOOK_MS, signal);
  }
}
