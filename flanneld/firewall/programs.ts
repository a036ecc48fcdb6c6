// Programs that a packet filter can be reached by where the kernel can't: found on the PATH, run without a shell, bounded.

import { execute, findProgram } from '../../kernel/execute.ts';
import { readRegular } from '../../kernel/files.ts';
import type { Family } from '../../model/ip.ts';

/** What a program said. */
export interface Said {
  /** Exit code. */
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

export interface Programs {
  /** Path of a program, or undefined. */
  find(name: string): string | undefined;
  /** Never throws: what can't be started ends with 127. */
  run(path: string, args: readonly string[]): Promise<Said>;
  /** Names of the tables of iptables-legacy that this namespace has. */
  legacyTables(family: Family): readonly string[];
}

const TIMEOUT_MS = 20_000;
/** The rules of a table of many thousands. */
const MOST_BYTES = 1 << 24;

/** Where a PATH without them leaves system programs out. */
const USUAL: readonly string[] = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** Those of this host. `path`: directories separated by colons. */
export function hostPrograms(path = ''): Programs {
  const directories = [...new Set([...path.split(':').filter((each) => each.startsWith('/')), ...USUAL])];
  const environment = { PATH: directories.join(':'), LC_ALL: 'C' };
  return {
    find: (name) => findProgram(name, directories),
    run: (program, args) =>
      execute(program, { args, environment, input: '', timeoutMs: TIMEOUT_MS, maxBytes: MOST_BYTES }).catch(
        (error: Error) => ({ status: 127, output: '', errors: error.message }),
      ),
    legacyTables: (family) =>
      (readRegular(`/proc/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`) ?? '').split('\n').filter(Boolean),
  };
}
