// Where what takes long to build stays from one run to the next, outside of the tree.

import { homedir } from 'node:os';
import { join } from 'node:path';

/** Of a program and its version: "kubernetes-v1.34.4". */
export const cacheOf = (name: string): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'flannel-ts', name);
