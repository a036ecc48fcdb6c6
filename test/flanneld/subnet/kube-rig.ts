// Kubernetes subnet managers on a small API server that can be brought to do what a real one does seldom.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Test } from 'tap';
import { openClient } from '../../../flanneld/kube/client.ts';
import type { ListWatchTimes } from '../../../flanneld/kube/list-watch.ts';
import { parseNetworkConfig } from '../../../flanneld/network-config.ts';
import { openKube } from '../../../flanneld/subnet/kube.ts';
import type { SubnetManager } from '../../../flanneld/subnet/manager.ts';
import { type FakeApiServer, startFakeApiServer } from '../../support/fake-api-server.ts';
import { follow } from '../../support/snapshots.ts';

export const PREFIX = 'flannel.alpha.coreos.com/';
export const ALWAYS = new AbortController().signal;
export const NETWORK = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}');
const QUICK: ListWatchTimes = { pageSize: 2, longestPauseMs: 50 };

export interface Rig {
  readonly server: FakeApiServer;
  readonly configPath: string;
  open(node: string): SubnetManager;
  close(): Promise<void>;
}

export async function openRig(): Promise<Rig> {
  const server = await startFakeApiServer();
  const directory = mkdtempSync(`${tmpdir()}/flannel-kube-`);
  const managers: SubnetManager[] = [];
  const configPath = `${directory}/net-conf.json`;
  return {
    server,
    configPath,
    open(node) {
      const client = openClient(async () => ({ server: server.url, authorization: undefined, tls: {} }));
      const manager = openKube({
        kube: { annotationPrefix: PREFIX, networkConfig: configPath, clearUnavailable: true },
        client,
        node,
        report: () => undefined,
        times: QUICK,
      });
      managers.push(manager);
      return manager;
    },
    async close() {
      for (const manager of managers) await manager.close();
      await server.close();
      rmSync(directory, { recursive: true });
    },
  };
}

export async function rig(t: Test): Promise<Rig> {
  const made = await openRig();
  t.teardown(() => made.close());
  return made;
}

/** With the Node `a`, on which ours runs. */
export async function rigWithNode(t: Test, annotations: Readonly<Record<string, string>> = {}): Promise<Rig> {
  const made = await rig(t);
  made.server.put('a', { podCIDRs: ['10.5.1.0/24'], annotations });
  return made;
}

export const watching = (t: Test, manager: SubnetManager) => {
  const follower = follow(manager);
  t.teardown(() => follower.stop());
  return follower;
};
