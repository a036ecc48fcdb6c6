// Kubernetes' own programs for the tests: from KUBE_BIN, else from a cache outside of the tree, else built there once from
// the published Go modules that go.mod pins. `node test/kubernetes/binaries.ts [NAME]...` builds what is missing.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const PROGRAMS = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
] as const;
export type Program = (typeof PROGRAMS)[number];

/** Of k8s.io/kubernetes, as go.mod says: "v1.34.4". */
export const VERSION = /^require k8s\.io\/kubernetes (v\S+)$/m.exec(
  readFileSync(join(import.meta.dirname, 'go.mod'), 'utf8'),
)?.[1] as string;

const cache = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'flannel-ts', `kubernetes-${VERSION}`);

/** Where the programs are. */
export const binDirectory = (): string => process.env.KUBE_BIN || cache();

export function missingPrograms(programs: readonly Program[] = PROGRAMS): Program[] {
  return programs.filter((name) => {
    try {
      accessSync(join(binDirectory(), name), constants.X_OK);
      return false;
    } catch {
      return true;
    }
  });
}

/** Whether there is a Go toolchain to build them with. */
export function hasGo(): boolean {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
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

/** By rename, so that a build that was interrupted leaves no program. */
async function build(name: Program): Promise<void> {
  const [major, minor] = VERSION.slice(1).split('.');
  const facts = { gitVersion: VERSION, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
  const linked = Object.entries(facts).map(([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`);
  const output = join(cache(), name);
  const args = ['build', '-trimpath', '-ldflags', ['-s -w', ...linked].join(' '), '-o', `${output}.new`];
  const child = spawn('go', [...args, `k8s.io/kubernetes/cmd/${name}`], {
    cwd: import.meta.dirname,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`go build k8s.io/kubernetes/cmd/${name}: exit code ${code}`);
  renameSync(`${output}.new`, output);
}

if (process.argv[1] === import.meta.filename) {
  const asked = process.argv.slice(2) as Program[];
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  // Without Go the tests are skipped, and say so.
  if (hasGo() || process.env.KUBE_BIN) await buildPrograms(asked.length > 0 ? asked : PROGRAMS, say);
  else say(`no Go: not built: ${missingPrograms().join(', ') || 'nothing'}`);
}
