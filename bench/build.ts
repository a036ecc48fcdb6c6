// What is measured and what measures it, made anew in build/bench.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';

/** Compiles bench/NAME.c. @returns the executable's path @throws Error with what the compiler said */
export function build(root: string, name: string): string {
  const directory = `${root}/build/bench`;
  mkdirSync(directory, { recursive: true });
  execFileSync('cc', ['-std=gnu11', '-O2', '-static', '-o', `${directory}/${name}`, `${root}/bench/${name}.c`]);
  return `${directory}/${name}`;
}

/** Installs the tree below build/bench, as install.sh does on a host. @returns the agent's executable @throws Error */
export function install(root: string): string {
  const directory = `${root}/build/bench/root`;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  execFileSync(`${root}/install.sh`, ['--root', directory], { stdio: ['ignore', 'ignore', 'inherit'] });
  return `${directory}/usr/bin/flanneld`;
}
