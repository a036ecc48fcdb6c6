// Helm for the tests: from HELM, else from a cache outside of the tree, else built there once from the published Go modules
// that helm/go.mod pins. `node test/deploy/helm.ts` builds it.

import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { notBuilt } from '../support/go-program.ts';

const MODULE = join(import.meta.dirname, 'helm');
const VERSION = /helm\.sh\/helm\/v3 (v\S+)/.exec(readFileSync(join(MODULE, 'go.mod'), 'utf8'))?.[1];
const CACHED = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'flannel-ts', `helm-${VERSION}`, 'helm');

const program = process.env.HELM || CACHED;

function isThere(): boolean {
  try {
    accessSync(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why there is no Helm; false when there is. @throws Error where it could have been built */
export const lacksHelm = (): string | false => !isThere() && notBuilt('Helm is not built', 'node test/deploy/helm.ts');

/** Without a cluster Helm has no version of Kubernetes to hold against the chart's. */
const AGAINST = ['--kube-version', '1.33.0'];

/** What a command of Helm's prints. @throws Error with what it complained of */
export function helm(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, [...args, ...AGAINST], { encoding: 'utf8', timeout: 60_000 });
  if (status === 0) return stdout;
  throw new Error(`helm ${args.join(' ')}: ${(stderr + stdout).trim()}`);
}

/** By rename, so that a build that was interrupted leaves no program. */
function build(): void {
  mkdirSync(dirname(CACHED), { recursive: true });
  execFileSync('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', `${CACHED}.new`, 'helm.sh/helm/v3/cmd/helm'], {
    cwd: MODULE,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: 'inherit',
  });
  renameSync(`${CACHED}.new`, CACHED);
}

if (import.meta.main && !isThere()) build();
