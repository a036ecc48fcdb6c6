// The measuring programs in C.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

/** Compiles bench/NAME.c. @returns the executable's path @throws Error with what the compiler said */
export function build(root: string, name: string): string {
  const directory = `${root}/build/bench`;
  mkdirSync(directory, { recursive: true });
  execFileSync('cc', ['-std=gnu11', '-O2', '-static', '-o', `${directory}/${name}`, `${root}/bench/${name}.c`]);
  return `${directory}/${name}`;
}
