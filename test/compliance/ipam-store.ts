// What host-local does (reference: its own test suite), as requests and what they leave on the disk. The suite runs
// against our ipam and against the Go program, and against both taking turns on one directory.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { CniRoute, Dns } from '../../model/cni.ts';
import type { ErrorCode } from '../../model/errors.ts';
import { BEHAVIOUR } from './ipam-store-cases.ts';
import { TABLES } from './ipam-store-tables.ts';
import { temporaryDirectory } from '../support/temporary.ts';

export interface IpamRequest {
  /** The whole network configuration. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly containerId: string;
  readonly ifname: string;
  readonly cniArgs?: string | undefined;
}

export interface IpamSuccess {
  readonly ok: true;
  /** Of ADD; empty for the other verbs. */
  readonly ips: readonly { readonly address: string; readonly gateway?: string | undefined }[];
  readonly routes: readonly CniRoute[];
  readonly dns: Dns;
}

export interface IpamFailure {
  readonly ok: false;
  readonly message: string;
  /** Absent from a program that knows no codes of ours. */
  readonly code?: ErrorCode | undefined;
}

/** A program that serves IPAM requests. */
export type Ipam = (command: 'ADD' | 'DEL' | 'CHECK', request: IpamRequest) => IpamSuccess | IpamFailure;

/** A case: what is asked of a world that nothing has been asked of before. */
export type Case = readonly [name: string, run: (t: Test, world: World) => void];

/** Runs the suite as subtests of `t`. */
export function ipamStoreSuite(t: Test, ipam: Ipam): void {
  for (const [name, run] of [...BEHAVIOUR, ...TABLES]) {
    t.test(name, async (t) => {
      const root = temporaryDirectory(t);
      run(t, new World(ipam, root));
    });
  }
}

/** One directory and the requests made of it. */
class World {
  readonly ipam: Ipam;
  readonly root: string;
  readonly directory: string;

  constructor(ipam: Ipam, root: string) {
    this.ipam = ipam;
    this.root = root;
    this.directory = join(root, 'mynet');
  }

  request(
    containerId: string,
    ipam: object,
    extra: Partial<Pick<IpamRequest, 'ifname' | 'cniArgs'>> & { readonly config?: object } = {},
  ): IpamRequest {
    const config = {
      cniVersion: '1.0.0',
      name: 'mynet',
      type: 'bridge',
      ipam: { type: 'host-local', dataDir: this.root, ...ipam },
      ...extra.config,
    };
    return { config, containerId, ifname: extra.ifname ?? 'eth0', cniArgs: extra.cniArgs };
  }

  /** ADD that succeeds; the addresses. */
  add(t: Test, ...of: Parameters<World['request']>): string[] {
    const outcome = this.ipam('ADD', this.request(...of));
    if (!outcome.ok) {
      t.fail(`ADD: ${outcome.message}`);
      return [];
    }
    return outcome.ips.map(({ address }) => address);
  }

  /** DEL that succeeds. */
  del(t: Test, ...of: Parameters<World['request']>): void {
    t.match(this.ipam('DEL', this.request(...of)), { ok: true });
  }

  /** A verb that fails with the code and these words. */
  refuses(
    t: Test,
    command: 'ADD' | 'CHECK',
    code: ErrorCode,
    words: string,
    ...of: Parameters<World['request']>
  ): void {
    const outcome = this.ipam(command, this.request(...of));
    if (outcome.ok) return void t.fail(`${command} succeeded: ${JSON.stringify(outcome)}`);
    t.match(outcome.message, words);
    if (outcome.code !== undefined) t.equal(outcome.code, code);
  }

  /** Writes files into the network's directory. */
  put(files: Readonly<Record<string, string>>): void {
    mkdirSync(this.directory, { recursive: true });
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.directory, name), content);
  }

  /** The network's directory, without host-local's lock. */
  files(): Record<string, string> {
    const names = readdirSync(this.directory).filter((name) => name !== 'lock');
    return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(this.directory, name), 'utf8')]));
  }
}
