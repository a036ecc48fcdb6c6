// frames.c: what it sends and sees in the namespace of a pod.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { CniHost } from './cni-host.ts';
import { until } from './cni-host-checks.ts';

/** Compiles it into the directory. @returns its path */
export function compileFrames(directory: string): string {
  const program = join(directory, 'frames');
  execFileSync('cc', ['-O2', '-o', program, join(import.meta.dirname, 'frames.c')]);
  return program;
}

/** Starts it in a pod's namespace and waits until it is ready. `text`: what it has printed. */
export async function startFrames(node: CniHost, id: string, program: string, words: readonly string[]) {
  const child = node.machine.start('ip', ['netns', 'exec', id, program, ...words], { log: 'pipe' });
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  await until(() => text.includes('ready'));
  return { child, text: () => text };
}
