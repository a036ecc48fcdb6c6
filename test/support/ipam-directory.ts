// A network's directory for one test, and short ways to fill and to name what is in it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type IpamConfig, parseIpam, type reserve } from '../../ipam/verbs.ts';
import type { Ip } from '../../model/ip.ts';
import { temporaryDirectory } from './temporary.ts';

export const OWNER = { containerId: 'dummy', ifname: 'eth0' };
export const OTHER = { containerId: 'other', ifname: 'eth0' };
export const SMALL = [[{ subnet: '10.1.2.0/30' }]];
export const DUAL = [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00::/64' }]];

/** A configuration with a fresh directory. */
export function fresh(
  t: Test,
  ranges: unknown = [[{ subnet: '10.1.2.0/24' }]],
  more: object = {},
): IpamConfig & { readonly directory: string; readonly own: string } {
  const dataDir = temporaryDirectory(t);
  const config = parseIpam({
    network: 'mynet',
    cniVersion: '1.0.0',
    ipam: { dataDir, ranges, ...more },
    cniArgs: new Map(),
  });
  return { ...config, directory: join(dataDir, 'mynet'), own: join(dataDir, '.flannel-tmp/mynet') };
}

/** Writes files into the directory, which is created when missing. */
export function put(directory: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
}

export const addressesOf = ({ ips }: ReturnType<typeof reserve>): string[] => ips.map(({ address }) => address);
/** The configuration with a requested address. */
export const wanting = (config: IpamConfig, ip: string): IpamConfig => ({ ...config, requested: [ip as Ip] });
