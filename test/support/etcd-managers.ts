// Subnet managers on a real etcd, for their tests.

import type { Test } from 'tap';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import type { EtcdConfig } from '../../flanneld/subnet/etcd-options.ts';
import { type EtcdOptions, openEtcd } from '../../flanneld/subnet/etcd.ts';
import type { SubnetManager } from '../../flanneld/subnet/manager.ts';
import { type Follower, follow } from './snapshots.ts';

export const NETWORK = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
export const ALWAYS = new AbortController().signal;
/** Quick renewals, so that tests of them take seconds. */
export const QUICK = { renewalMs: 500 };

let prefixes = 0;

/** A prefix that nobody else uses, unless told which. */
export const configOf = (endpoints: readonly string[], more: Partial<EtcdConfig> = {}): EtcdConfig => ({
  endpoints,
  prefix: `/test-${prefixes++}`,
  tls: undefined,
  user: undefined,
  ...more,
});

export interface Managers {
  open(nodeId: string, options?: Partial<EtcdOptions>): SubnetManager;
  following(manager: SubnetManager): Follower;
  readonly etcd: EtcdConfig;
}

/** Managers on one prefix, all closed at the end of the test. */
export function managersOn(t: Test, etcd: EtcdConfig): Managers {
  const closing: (() => Promise<void>)[] = [];
  t.teardown(async () => {
    for (const close of closing.reverse()) await close();
  });
  return {
    etcd,
    open(nodeId, options = {}) {
      const manager = openEtcd({ etcd, nodeId, renewMarginMinutes: 60, times: QUICK, ...options });
      closing.push(() => manager.close());
      return manager;
    },
    following(manager) {
      const follower = follow(manager);
      closing.push(() => follower.stop());
      return follower;
    },
  };
}
