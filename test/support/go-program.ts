// Programs of other projects for the tests, built from the published Go modules that a go.mod pins.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, renameSync } from 'node:fs';

export interface GoProgram {
  /** Folder with go.mod. */
  readonly module: string;
  /** Import path of its package main. */
  readonly package: string;
  /** Where it is put. */
  readonly output: string;
  /** Variables of its packages that are set when it is linked. */
  readonly facts?: Readonly<Record<string, string>>;
  /** Whether it has parts in C. */
  readonly cgo?: boolean;
}

/** Builds it; by rename, so that a build that was interrupted leaves no program. @throws Error naming the package */
export async function buildGoProgram({
  module,
  package: path,
  output,
  facts = {},
  cgo = false,
}: GoProgram): Promise<void> {
  const linked = Object.entries(facts).map(([name, value]) => `-X ${name}=${value}`);
  const args = ['build', '-trimpath', '-ldflags', ['-s -w', ...linked].join(' '), '-o', `${output}.new`, path];
  const child = spawn('go', args, {
    cwd: module,
    env: { ...process.env, CGO_ENABLED: cgo ? '1' : '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`go build ${path}: exit code ${code}`);
  renameSync(`${output}.new`, output);
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether there is a Go toolchain to build with. */
export function hasGo(): boolean {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/**
 * Why tests that need programs are skipped. Where these could have been built that is a failure, but for the run of all tiers,
 * which is not to take an hour. `plan`: of test/run.ts.
 * @throws Error saying what builds them
 */
export function notBuilt(what: string, command: string, go = hasGo(), plan = process.env.FLANNEL_TEST_PLAN): string {
  if (!go) return `${what}: there is no Go to build with`;
  if (plan !== 'test') throw new Error(`${what}: run \`${command}\``);
  return `${what} (\`${command}\` builds)`;
}
