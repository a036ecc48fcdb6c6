// The directories that hold attachment records: the usual one, and those that configurations name. The latter are kept in
// a file, since a start must find the attachments of the time before.

import { DEFAULT_RECORDS } from '../../cni-plugin/config.ts';
import { ensureDirectory, readRegular, writeWhole } from '../../kernel/files.ts';

/** More than any node has; beyond, a directory is looked after until the next start only. */
const MOST = 64;

export interface RecordDirectories {
  /** Where those that configurations name are kept. */
  readonly file: string;
  all(): readonly string[];
  /** @throws NetError io */
  learn(directory: string): void;
}

export function recordDirectories(usual: string = DEFAULT_RECORDS): RecordDirectories {
  const file = `${usual}/.directories`;
  const known = new Set([usual, ...parse(readRegular(file, { maxBytes: 1 << 18 }))]);
  return {
    file,
    all: () => [...known],
    learn(directory) {
      if (known.has(directory)) return;
      known.add(directory);
      if (known.size > MOST) return;
      ensureDirectory(usual, 0o700);
      const others = [...known].filter((each) => each !== usual);
      writeWhole(file, `${JSON.stringify(others)}\n`);
    },
  };
}

/** A file that says something else says nothing. */
function parse(text: string | undefined): string[] {
  try {
    const value: unknown = JSON.parse(text ?? '[]');
    if (!Array.isArray(value)) return [];
    return value.filter((each): each is string => typeof each === 'string' && each.startsWith('/')).slice(0, MOST);
  } catch {
    return [];
  }
}
