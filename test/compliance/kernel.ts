// What every Kernel must do, as a function: run against the fake (test/kernel/fake.test.ts) and against the real one
// (test/root/kernel.test.ts). Each case was seen on Linux 6.18 first; whatever the fake does has a case here.

import t from 'tap';
import { ADDRESS_CASES } from './kernel-addresses.ts';
import { ASSIGNED_CASES } from './kernel-assigned.ts';
import { BRIDGE_CASES } from './kernel-bridges.ts';
import { CASCADE_CASES } from './kernel-cascades.ts';
import { HANDLE_CASES } from './kernel-handles.ts';
import { LINK_CASES } from './kernel-links.ts';
import { NAMESPACE_CASES } from './kernel-namespaces.ts';
import { NOTIFICATION_CASES } from './kernel-notifications.ts';
import { NEIGHBOUR_CASES } from './kernel-neighbours.ts';
import { QDISC_CASES } from './kernel-qdiscs.ts';
import { REVISION_CASES } from './kernel-revisions.ts';
import { ROUTE_READING_CASES } from './kernel-route-readings.ts';
import { ROUTE_CASES } from './kernel-routes.ts';
import { SET_CASES } from './kernel-sets.ts';
import { type Case, type Setup, sysctl } from './kernel-subject.ts';
import { TABLE_CASES } from './kernel-tables.ts';
import { VXLAN_CASES } from './kernel-vxlans.ts';

const CASES: Readonly<Record<string, Readonly<Record<string, Case>>>> = {
  links: LINK_CASES,
  bridges: BRIDGE_CASES,
  vxlans: VXLAN_CASES,
  addresses: ADDRESS_CASES,
  'what the kernel assigns': ASSIGNED_CASES,
  routes: ROUTE_CASES,
  'routes, read': ROUTE_READING_CASES,
  neighbours: NEIGHBOUR_CASES,
  cascades: CASCADE_CASES,
  qdiscs: QDISC_CASES,
  namespaces: NAMESPACE_CASES,
  tables: TABLE_CASES,
  'rules by number': HANDLE_CASES,
  notifications: NOTIFICATION_CASES,
  sets: SET_CASES,
  revisions: REVISION_CASES,
};

/** A namespace inherits these from the host's, where they may be anything. */
const DEFAULTS = [
  sysctl('net/ipv4/conf/all/forwarding', '0'),
  sysctl('net/ipv4/conf/all/promote_secondaries', '0'),
  sysctl('net/ipv4/conf/default/promote_secondaries', '0'),
  sysctl('net/ipv4/conf/default/rp_filter', '0'),
];

/** Runs every case on a subject of its own. */
export function kernelCompliance(name: string, setup: Setup): void {
  for (const [part, cases] of Object.entries(CASES)) {
    t.test(`${name}: ${part}`, async (t) => {
      for (const [title, run] of Object.entries(cases)) {
        await t.test(title, async (t) => {
          const subject = setup();
          t.teardown(() => subject.close());
          for (const namespace of [subject.namespace, subject.other]) subject.kernel.apply(namespace, DEFAULTS);
          await run(t, subject);
        });
      }
    });
  }
}
