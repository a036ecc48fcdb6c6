// What every subnet manager does, wherever it keeps the leases.

import type { Test } from 'tap';
import { type NetworkConfig, parseNetworkConfig } from '../../flanneld/network-config.ts';
import type { AcquireRequest, SubnetManager } from '../../flanneld/subnet/manager.ts';
import { type Ip, ip, type Prefix, prefix } from '../../model/ip.ts';
import { type Lease, type LeaseAttributes, leaseKey, type PerFamily } from '../../model/lease.ts';
import { count } from '../support/count.ts';
import { type Follower, follow } from '../support/snapshots.ts';

/** A store of leases that is empty at first, and the managers of several nodes on it. */
export interface Store {
  putConfig(text: string): Promise<void>;
  /** Takes a lease's entry away behind its node's back. */
  remove(lease: Lease): Promise<void>;
  open(nodeId: string): SubnetManager;
  /** Closes the managers. */
  close(): Promise<void>;
}

const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}';
const NETWORK = parseNetworkConfig(CONFIG);
/** With exactly two subnets: 10.5.0.8/30 and 10.5.0.12/30. */
const TWO = parseNetworkConfig('{"Network":"10.5.0.0/28","SubnetMin":"10.5.0.8"}');
const EIGHT = parseNetworkConfig(
  '{"Network":"10.5.0.0/24","SubnetLen":28,"SubnetMin":"10.5.0.128","EnableIPv6":true,"IPv6Network":"fc00::/60","IPv6SubnetMin":"fc00:0:0:8::"}',
);

/** Node number `node` has 192.0.2.<node> and fd00::<node>. */
export const attributesOf = (node: number, data: unknown = { VNI: 1 }): LeaseAttributes => ({
  publicIp: { 4: ip(`192.0.2.${node}`), 6: ip(`fd00::${node}`) },
  backendType: 'vxlan',
  backendData: { 4: data },
});

export const requestOf = (
  node: number,
  network: NetworkConfig,
  more: Partial<AcquireRequest> = {},
): AcquireRequest => ({
  network,
  attributes: attributesOf(node),
  previous: {},
  inUse: false,
  ...more,
});

const ALWAYS = new AbortController().signal;
const subnet = (text: string): PerFamily<Prefix> => ({ 4: prefix(text) });
const keys = (leases: readonly Lease[]): string[] => leases.map((lease) => leaseKey(lease.subnet)).sort();

type Case = (t: Test, store: Store, following: (manager: SubnetManager) => Follower) => Promise<void>;

/** Runs the suite as subtests of `t`; each gets a store of its own. */
export function subnetManagerSuite(t: Test, openStore: () => Promise<Store>): void {
  runCases(t, openStore, { ...ASSIGNED, ...CHOSEN });
}

/** What of it applies where the store assigns each node its subnet, of CONFIG's network. */
export function assigningManagerSuite(t: Test, openStore: () => Promise<Store>): void {
  runCases(t, openStore, ASSIGNED);
}

function runCases(t: Test, openStore: () => Promise<Store>, cases: Readonly<Record<string, Case>>): void {
  for (const [name, run] of Object.entries(cases)) {
    t.test(name, async (t) => {
      const store = await openStore();
      const followers: Follower[] = [];
      t.teardown(async () => {
        for (const follower of followers) await follower.stop();
        await store.close();
      });
      await run(t, store, (manager) => {
        const follower = follow(manager);
        followers.push(follower);
        return follower;
      });
    });
  }
}

/** Whoever decides which subnet a node has. */
const ASSIGNED: Readonly<Record<string, Case>> = {
  async 'the configuration is there or the error says that it is not'(t, store) {
    const manager = store.open('a');
    await t.rejects(manager.networkConfig(ALWAYS), { code: 'no-network-config' });
    await store.putConfig(CONFIG);
    t.equal(await manager.networkConfig(ALWAYS), CONFIG);
  },

  async 'a changed configuration is told'(t, store) {
    await store.putConfig(CONFIG);
    const controller = new AbortController();
    const texts = store.open('a').watchConfig(controller.signal, (trouble) => t.fail(String(trouble)));
    const seen = texts[Symbol.asyncIterator]();
    const until = async (wanted: string) => {
      for (;;) {
        const { value, done } = await seen.next();
        if (done || value === wanted) return value;
      }
    };
    t.equal(await until(CONFIG), CONFIG, 'as it is now');
    const other = '{"Network":"10.6.0.0/16"}';
    await store.putConfig(other);
    t.equal(await until(other), other, 'as it became');
    controller.abort(new Error('stop'));
    t.match(await seen.next(), { done: true });
  },

  async 'nodes take different subnets, and theirs again'(t, store) {
    const [a, b] = [store.open('a'), store.open('b')];
    const first = await a.acquire(requestOf(1, NETWORK), ALWAYS);
    t.match(first, { ...attributesOf(1), nodeId: 'a', subnet: { 4: /^10\.5\.\d+\.0\/24$/ } });
    const second = await b.acquire(requestOf(2, NETWORK), ALWAYS);
    t.not(leaseKey(second.subnet), leaseKey(first.subnet));
    t.strictSame(await store.open('a').acquire(requestOf(1, NETWORK), ALWAYS), first, 'after a restart');
    t.strictSame(await store.open('a').acquire(requestOf(1, NETWORK, { previous: second.subnet }), ALWAYS), first);
  },

  async 'a watch shows who is there, who comes, changes and goes'(t, store, following) {
    const [a, b, c] = [store.open('a'), store.open('b'), store.open('c')];
    const own = await a.acquire(requestOf(1, NETWORK), ALWAYS);
    const peer = await b.acquire(requestOf(2, NETWORK), ALWAYS);
    const watch = following(a);
    t.match(await watch.until('b', ({ peers }) => peers.length === 1), { own, peers: [peer] });
    const late = await c.acquire(requestOf(3, NETWORK), ALWAYS);
    const both = await watch.until('c', ({ peers }) => peers.length === 2);
    t.strictSame(keys(both.peers), keys([peer, late]));
    const moved = {
      ...peer,
      publicIp: { 4: '192.0.2.77' as Ip },
      backendData: { 4: { VNI: 1, VtepMAC: '02:00:00:00:00:01' } },
    };
    await b.publish(moved, ALWAYS);
    const changed = await watch.until('the change', ({ peers }) =>
      peers.some((lease) => lease.publicIp[4] === '192.0.2.77'),
    );
    t.strictSame(
      changed.peers.find((lease) => lease.nodeId === 'b'),
      moved,
    );
    await store.remove(late);
    t.strictSame(keys((await watch.until('c gone', ({ peers }) => peers.length === 1)).peers), keys([peer]));
  },

  async 'our own entry is taken away, and published again'(t, store, following) {
    const [a, b] = [store.open('a'), store.open('b')];
    const own = await a.acquire(requestOf(1, NETWORK), ALWAYS);
    const peer = await b.acquire(requestOf(2, NETWORK), ALWAYS);
    const watch = following(a);
    await watch.until('our entry', (snapshot) => snapshot.own !== undefined);
    await store.remove(own);
    const without = await watch.until('no entry of ours', (snapshot) => snapshot.own === undefined);
    t.strictSame(without.peers, [peer]);
    await a.publish(own, ALWAYS);
    const again = await watch.until('our entry again', (snapshot) => snapshot.own !== undefined);
    t.strictSame([again.own, again.peers], [own, [peer]]);
  },

  async 'a node keeps its subnet when its address changes'(t, store, following) {
    const own = await store.open('a').acquire(requestOf(1, NETWORK), ALWAYS);
    const watch = following(store.open('b'));
    await watch.until('the lease', ({ peers }) => peers.length === 1);
    const moved = await store.open('a').acquire(requestOf(9, NETWORK), ALWAYS);
    t.strictSame(moved.subnet, own.subnet);
    await watch.until('the new address', ({ peers }) => peers[0]?.publicIp[4] === '192.0.2.9');
  },

  async 'a signal ends what is under way'(t, store, following) {
    const manager = store.open('a');
    await t.rejects(manager.acquire(requestOf(1, NETWORK), AbortSignal.abort()), { name: 'AbortError' });
    const stop = new AbortController();
    const kept = manager.keepAlive(stop.signal, () => {});
    const watch = following(manager);
    await watch.until('nothing', () => true);
    stop.abort();
    await kept;
    await watch.stop();
    t.pass('keepAlive and watch ended');
  },
};

/** Where nodes take their subnets themselves. */
const CHOSEN: Readonly<Record<string, Case>> = {
  async 'the previous subnet if it is free and fits'(t, store) {
    const previous = subnet('10.5.77.0/24');
    t.strictSame((await store.open('a').acquire(requestOf(1, NETWORK, { previous }), ALWAYS)).subnet, previous);
    t.notSame((await store.open('b').acquire(requestOf(2, NETWORK, { previous }), ALWAYS)).subnet, previous, 'taken');
    const outside = subnet('10.6.1.0/24');
    t.notSame(
      (await store.open('c').acquire(requestOf(3, NETWORK, { previous: outside }), ALWAYS)).subnet,
      outside,
      'outside',
    );
    const used = requestOf(4, NETWORK, { previous: outside, inUse: true });
    t.strictSame((await store.open('d').acquire(used, ALWAYS)).subnet, outside, 'outside, but pods use it');
  },

  async 'a subnet that does not fit any more makes room for one that does'(t, store, following) {
    const old = await store.open('a').acquire(requestOf(1, NETWORK), ALWAYS);
    const fresh = await store.open('a').acquire(requestOf(1, TWO), ALWAYS);
    t.match(leaseKey(fresh.subnet), /^10\.5\.0\.(8|12)-30$/);
    const seen = await following(store.open('b')).until('the new subnet', ({ peers }) => peers.length > 0);
    t.strictSame(keys(seen.peers), keys([fresh]));
    t.notSame(keys([old]), keys([fresh]));
  },

  async 'no subnet is free'(t, store) {
    for (const node of [1, 2]) await store.open(`n${node}`).acquire(requestOf(node, TWO), ALWAYS);
    await t.rejects(store.open('n3').acquire(requestOf(3, TWO), ALWAYS), {
      code: 'subnets-exhausted',
      message: /10\.5\.0\.0\/28/,
    });
  },

  async 'many nodes at once get each a subnet of its own'(t, store) {
    const taken = await Promise.all(
      [1, 2, 3, 4, 5, 6, 7, 8].map((node) => store.open(`n${node}`).acquire(requestOf(node, EIGHT), ALWAYS)),
    );
    for (const family of [4, 6] as const)
      t.equal(new Set(taken.map((lease) => lease.subnet[family])).size, 8, `IPv${family}`);
  },

  async 'a subnet that another node took meanwhile is lost, and left to it'(t, store, following) {
    const [a, b] = [store.open('a'), store.open('b')];
    const own = await a.acquire(requestOf(1, NETWORK), ALWAYS);
    const watch = following(a);
    await watch.until('our entry', (snapshot) => snapshot.own !== undefined);
    await store.remove(own);
    const thief = await b.acquire(requestOf(2, NETWORK, { previous: own.subnet }), ALWAYS);
    t.strictSame(thief.subnet, own.subnet);
    await t.rejects(a.publish(own, ALWAYS), { code: 'lease-lost', message: /192\.0\.2\.2/ });
    const seen = await watch.until('the thief', ({ peers }) => peers.length === 1);
    t.strictSame(seen, { own: undefined, peers: [thief] });
  },

  async 'two nodes at once and two subnets: both get one'(t, store) {
    for (let round = count(50); round > 0; round--) {
      const managers = [store.open('a'), store.open('b')];
      const taken = await Promise.all(
        managers.map((manager, node) => manager.acquire(requestOf(node + 1, TWO), ALWAYS)),
      );
      t.strictSame(keys(taken), ['10.5.0.12-30', '10.5.0.8-30']);
      for (const lease of taken) await store.remove(lease);
      for (const manager of managers) await manager.close();
    }
  },
};
