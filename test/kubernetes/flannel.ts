// flannel itself for the tests: its agent from its published Go module, and its CNI plugin from the last release of the
// reference plugins that had it. From FLANNEL_BIN, else from a cache outside of the tree, else built there once. `node
// test/kubernetes/flannel.ts` builds what is missing.

import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN_BIN } from '../cni/target.ts';
import { cacheOf } from '../support/cache.ts';
import { buildGoProgram, type GoProgram, hasGo, isExecutable, notBuilt } from '../support/go-program.ts';

const MODULES = join(import.meta.dirname, 'flannel');

/** Of github.com/flannel-io/flannel, as go.mod says: "v0.26.7". */
const FLANNEL_VERSION = /github\.com\/flannel-io\/flannel (v\S+)/.exec(
  readFileSync(join(MODULES, 'agent/go.mod'), 'utf8'),
)?.[1] as string;

const directory = process.env.FLANNEL_BIN || cacheOf(`flannel-${FLANNEL_VERSION}`);
const AGENT = join(directory, 'flanneld');
const PLUGIN = join(directory, 'flannel');

const PROGRAMS: readonly GoProgram[] = [
  {
    module: join(MODULES, 'agent'),
    package: 'github.com/flannel-io/flannel',
    output: AGENT,
    facts: { 'github.com/flannel-io/flannel/pkg/version.Version': FLANNEL_VERSION },
    // The udp backend.
    cgo: true,
  },
  {
    module: join(MODULES, 'cni-plugin'),
    package: 'github.com/containernetworking/plugins/plugins/meta/flannel',
    output: PLUGIN,
  },
];

const missing = (): GoProgram[] => PROGRAMS.filter(({ output }) => !isExecutable(output));

/** Why tests with flannel are skipped; false when it is there. @throws Error where it could have been built */
export const lacksFlannel = (): string | false =>
  missing().length === 0 ? false : notBuilt('flannel is not built', 'node test/kubernetes/flannel.ts');

/** Path of its agent. */
export const flannelAgent = (): string => AGENT;

/** Makes a directory of CNI executables as nodes with flannel have it: its plugin, and the reference plugins. */
export function flannelPlugins(at: string): string {
  mkdirSync(at, { recursive: true });
  symlinkSync(PLUGIN, join(at, 'flannel'));
  for (const name of ['bridge', 'host-local', 'portmap']) symlinkSync(join(DEBIAN_BIN, name), join(at, name));
  return at;
}

/** Builds what is missing; a few minutes the first time. @throws Error naming the package */
export async function buildFlannel(say: (line: string) => void): Promise<void> {
  mkdirSync(directory, { recursive: true });
  for (const program of missing()) {
    say(`building ${program.package} into ${directory}`);
    await buildGoProgram(program);
  }
}

if (process.argv[1] === import.meta.filename && hasGo())
  await buildFlannel((line) => process.stdout.write(`${line}\n`));
