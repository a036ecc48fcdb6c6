// Whether something has changed since it was looked at: known at once, not when the notification comes.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Step } from '../../model/steps.ts';
import { create, drop, put, SUBNETS, declare, TABLE } from './kernel-nft.ts';
import { add, bridge, type Case, remove, type Subject, set, sysctl, veth } from './kernel-subject.ts';

const BRIDGE = 'rev0';

/** Each must change the bridge's revision. */
const CHANGES: readonly Step[] = [
  set(BRIDGE, { up: true }),
  set(BRIDGE, { mtu: 1400 }),
  set(BRIDGE, { promiscuous: true }),
  add.address({ device: BRIDGE, address: '10.71.0.1/24' }),
  add.address({ device: BRIDGE, address: 'fd71::1/64', noDad: true }),
  remove.address({ device: BRIDGE, address: '10.71.0.1/24' }),
  remove.address({ device: BRIDGE, address: 'fd71::1/64' }),
  sysctl('net/ipv4/ip_forward', '1'),
  sysctl('net/ipv4/ip_forward', '0'),
  sysctl('net/ipv6/conf/all/forwarding', '1'),
  sysctl('net/ipv6/conf/all/forwarding', '0'),
  remove.link({ name: BRIDGE, kind: 'bridge' }),
];

/** The revision when nothing more comes of earlier changes: carriers and IPv6 addresses settle a little later. */
async function settled({ kernel }: Subject, index: number): Promise<number> {
  for (let looks = 0; looks < 200; looks++) {
    const before = kernel.linkRevision(index);
    await sleep(10);
    if (kernel.linkRevision(index) === before) return before;
  }
  throw new Error('looking alone changes the revision');
}

/** A worker of the kernel tells of a new IPv6 address (net/ipv6/addrconf.c, addrconf_dad_work). */
async function otherThan({ kernel }: Subject, index: number, before: number): Promise<void> {
  for (let looks = 0; looks < 200 && kernel.linkRevision(index) === before; looks++) await sleep(10);
}

const succeed = (t: Test, { kernel }: Subject, step: Step) => t.same(kernel.apply(kernel.host, [step]), []);

export const REVISION_CASES: Readonly<Record<string, Case>> = {
  async 'what changes a bridge changes its revision'(t, s) {
    succeed(t, s, bridge(BRIDGE));
    const index = s.kernel.read(s.kernel.host, { links: [BRIDGE] }).links[0]?.index ?? 0;
    for (const step of CHANGES) {
      const before = await settled(s, index);
      succeed(t, s, step);
      const isLate = step.verb === 'add' && step.item.type === 'address' && step.item.value.address.includes(':');
      if (isLate) await otherThan(s, index, before);
      t.not(s.kernel.linkRevision(index), before, JSON.stringify(step));
    }
  },

  async 'what happens to other devices leaves it'(t, s) {
    succeed(t, s, bridge(BRIDGE));
    const index = s.kernel.read(s.kernel.host, { links: [BRIDGE] }).links[0]?.index ?? 0;
    const before = await settled(s, index);
    succeed(t, s, veth('rev1', 'rev2'));
    succeed(t, s, set('rev1', { up: true }));
    succeed(t, s, add.address({ device: 'rev1', address: '10.71.0.1/24' }));
    t.equal(s.kernel.linkRevision(index), before);
    succeed(t, s, remove.link({ name: 'rev1', kind: 'veth' }));
    t.equal(s.kernel.linkRevision(index), before);
    succeed(t, s, remove.link({ name: BRIDGE, kind: 'bridge' }));
  },

  'a new bridge of the same name has another index'(t, s) {
    const indexOf = () => s.kernel.read(s.kernel.host, { links: [BRIDGE] }).links[0]?.index;
    succeed(t, s, bridge(BRIDGE));
    const first = indexOf();
    succeed(t, s, remove.link({ name: BRIDGE, kind: 'bridge' }));
    succeed(t, s, veth('rev1', 'rev2'));
    succeed(t, s, bridge(BRIDGE));
    t.not(indexOf(), first);
    succeed(t, s, remove.link({ name: BRIDGE, kind: 'bridge' }));
    succeed(t, s, remove.link({ name: 'rev1', kind: 'veth' }));
  },

  'transactions are counted, and nothing else'(t, { kernel }) {
    const commands = [
      [create],
      [declare(SUBNETS)],
      [put(SUBNETS, '10.72.0.0/16'), put(SUBNETS, '10.73.0.0/16')],
      [drop],
    ];
    for (const each of commands) {
      const before = kernel.rulesGeneration();
      t.equal(kernel.rulesGeneration(), before);
      kernel.commit({ family: 'inet', table: TABLE, commands: each });
      t.equal(kernel.rulesGeneration(), before + 1);
    }
    const before = kernel.rulesGeneration();
    t.throws(() => kernel.commit({ family: 'inet', table: TABLE, commands: [drop] }));
    t.equal(kernel.rulesGeneration(), before, 'a transaction that failed is none');
  },
};
