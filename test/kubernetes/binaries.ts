// Kubernetes' own programs for the tests: from KUBE_BIN, else from a cache outside of the tree, else built there once from
// the published Go modules that go.mod pins. `node test/kubernetes/binaries.ts [NAME]...` builds what is missing.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheOf } from '../support/cache.ts';
import { buildGoProgram, hasGo, isExecutable } from '../support/go-program.ts';
import { buildFlannel } from './flannel.ts';

export const PROGRAMS = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
] as const;
export type Program = (typeof PROGRAMS)[number];

/** Of k8s.io/kubernetes, as go.mod says: "v1.34.4". */
const VERSION = /^require k8s\.io\/kubernetes (v\S+)$/m.exec(
  readFileSync(join(import.meta.dirname, 'go.mod'), 'utf8'),
)?.[1] as string;

const cache = (): string => cacheOf(`kubernetes-${VERSION}`);

/** Where the programs are. */
export const binDirectory = (): string => process.env.KUBE_BIN || cache();

export function missingPrograms(programs: readonly Program[] = PROGRAMS): Program[] {
  return programs.filter((name) => !isExecutable(join(binDirectory(), name)));
}

/**
 * Builds what is missing; about half an hour on two processors the first time. @throws Error naming the program
 */
export async function buildPrograms(programs: readonly Program[], say: (line: string) => void): Promise<void> {
  const missing = missingPrograms(programs);
  if (missing.length > 0 && process.env.KUBE_BIN)
    throw new Error(`KUBE_BIN=${process.env.KUBE_BIN} has no ${missing.join(', ')}`);
  mkdirSync(cache(), { recursive: true });
  for (const name of missing) {
    const began = Date.now();
    say(`building ${name} ${VERSION} into ${cache()}`);
    await build(name);
    say(`built ${name} in ${Math.round((Date.now() - began) / 1000)} s`);
  }
}

function build(name: Program): Promise<void> {
  const [major = '', minor = ''] = VERSION.slice(1).split('.');
  const facts = { gitVersion: VERSION, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
  return buildGoProgram({
    module: import.meta.dirname,
    package: `k8s.io/kubernetes/cmd/${name}`,
    output: join(cache(), name),
    facts: Object.fromEntries(
      Object.entries(facts).map(([key, value]) => [`k8s.io/component-base/version.${key}`, value]),
    ),
  });
}

if (process.argv[1] === import.meta.filename) {
  const asked = process.argv.slice(2) as Program[];
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  // Without Go the tests are skipped, and say so.
  if (hasGo() || process.env.KUBE_BIN) await buildPrograms(asked.length > 0 ? asked : PROGRAMS, say);
  else say(`no Go: not built: ${missingPrograms().join(', ') || 'nothing'}`);
  if (hasGo() && asked.length === 0) await buildFlannel(say);
}
