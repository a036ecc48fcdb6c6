// A directory of plugins under test, and how its programs are called. What the reference has as `bridge` is `flannel`
// with the reference's keys in ours; the other programs differ only in name.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { CniVersion } from '../../cni-plugin/versions.ts';

/** What the rows call the programs. */
export type Role = 'bridge' | 'ipam' | 'portmap' | 'bandwidth';

/** 1.1.1: what Debian has, and what knows no version beyond 1.0.0; newer: a release with 1.1.0. */
export type Release = 'ours' | '1.1.1' | 'newer';

export interface Target {
  readonly directory: string;
  /** That of the plugins it is chained with. */
  readonly foreign: string;
  readonly release: Release;
  /** Whether `flanneld --cni-only` of the directory serves the plugins. */
  readonly agent: boolean;
  readonly ours: boolean;
  /** CNI_PATH: the directory itself, then that of the foreign plugins. */
  readonly path: string;
  /** Name of the file, and `type` in a configuration. */
  readonly programs: Readonly<Record<Role, string>>;
}

const OURS: Target['programs'] = {
  bridge: 'flannel',
  ipam: 'flannel-ipam',
  portmap: 'flannel-portmap',
  bandwidth: 'flannel-bandwidth',
};
const REFERENCE: Target['programs'] = {
  bridge: 'bridge',
  ipam: 'host-local',
  portmap: 'portmap',
  bandwidth: 'bandwidth',
};

/** Debian's containernetworking-plugins. */
export const DEBIAN_BIN = '/usr/lib/cni';
export const OWN_BIN = join(import.meta.dirname, '../../build/bin');

export interface TargetOptions {
  readonly foreign?: string | undefined;
  readonly agent?: boolean | undefined;
}

/** @throws Error when the directory has neither `flannel` nor `bridge` */
export function openTarget(directory: string, { foreign = DEBIAN_BIN, agent = false }: TargetOptions = {}): Target {
  const ours = existsSync(join(directory, 'flannel'));
  const programs = ours ? OURS : REFERENCE;
  const program = join(directory, programs.bridge);
  if (!existsSync(program)) throw new Error(`${directory}: neither a plugin "flannel" nor a plugin "bridge"`);
  const { supportedVersions: versions } = JSON.parse(
    execFileSync(program, {
      env: { ...process.env, CNI_COMMAND: 'VERSION' },
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
    }),
  ) as { supportedVersions: CniVersion[] };
  const release = ours ? 'ours' : versions.includes('1.1.0') ? 'newer' : '1.1.1';
  return { directory, foreign, agent, release, ours, path: `${directory}:${foreign}`, programs };
}
