// Which node this is, whatever addresses it has: a random number made at the first start and kept.

import { dirname } from 'node:path';
import { ensureDirectory, readRegular, writeWhole } from '../kernel/files.ts';

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/**
 * The id in the file, which is made when it isn't there or holds none (a write that the power failed under).
 * @throws NetError io
 */
export function nodeId(path: string): string {
  const text = readRegular(path, { followLink: true })?.trim() ?? '';
  if (UUID.test(text)) return text;
  const made = crypto.randomUUID();
  ensureDirectory(dirname(path));
  writeWhole(path, `${made}\n`, { mode: 0o600, sync: true });
  return made;
}
