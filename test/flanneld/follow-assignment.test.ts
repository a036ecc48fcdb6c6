// The subnet that is assigned to a node, followed while the agent runs on a fake host.

import t from 'tap';
import { followAssignment } from '../../flanneld/follow-assignment.ts';
import { newProgress } from '../../flanneld/progress.ts';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import type { Prepared } from '../../flanneld/prepare.ts';
import { type Prefix, prefix } from '../../model/ip.ts';
import type { Lease } from '../../model/lease.ts';
import type { Step } from '../../model/steps.ts';
import { fakeHost, testLog } from './fixtures/host.ts';

const NETWORK = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
const [OLD, NEW] = [prefix('10.244.3.0/24'), prefix('10.244.7.0/24')];

const add = (item: Extract<Step, { verb: 'add' }>['item']): Step => ({ verb: 'add', item });

function rig(assigned: Prefix | undefined) {
  const kernel = fakeHost();
  const failures = kernel.apply(kernel.host, [
    add({ type: 'link', value: { name: 'cni0', kind: 'bridge', up: true } }),
    add({ type: 'address', value: { device: 'cni0', address: prefix('10.244.3.1/24') } }),
  ]);
  if (failures.length > 0) throw failures[0]?.error;
  const progress = newProgress(0);
  const lease: Lease = { publicIp: {}, backendType: 'vxlan', backendData: {}, subnet: { 4: OLD } };
  progress.prepared = { network: NETWORK, site: { nodeId: 'n1' } } as Prepared;
  progress.lease = lease;
  progress.assignment = { subnet: assigned === undefined ? {} : { 4: assigned }, publicIp: {} };
  let moved = 0;
  const follower = followAssignment({ kernel, log: testLog() }, progress, () => void moved++);
  const gateways = () =>
    kernel
      .read(kernel.host, { addresses: ['cni0'] })
      .addresses.map(({ address }) => String(address))
      .filter((address) => !address.startsWith('fe80:'));
  return { kernel, progress, follower, moved: () => moved, gateways };
}

t.test('the same subnet, or none while there is no Node: nothing happens', async (t) => {
  for (const assigned of [OLD, undefined]) {
    const { progress, follower, moved, gateways } = rig(assigned);
    follower.check();
    t.strictSame([progress.lease?.subnet[4], progress.subnetTrouble, moved()], [OLD, undefined, 0]);
    t.strictSame(gateways(), ['10.244.3.1/24']);
  }
});

t.test('another subnet is taken up, and the bridge has the former gateway no more', async (t) => {
  const { progress, follower, moved, gateways } = rig(NEW);
  follower.check();
  t.strictSame([progress.lease?.subnet[4], progress.subnetTrouble, moved()], [NEW, undefined, 1]);
  t.strictSame(gateways(), []);
  follower.check();
  t.equal(moved(), 1);
});

t.test('not while pods use the old one', async (t) => {
  const { kernel, progress, follower, moved, gateways } = rig(NEW);
  kernel.apply(kernel.host, [
    add({ type: 'link', value: { name: 'pod', kind: 'veth', peer: { name: 'eth9' }, master: 'cni0' } }),
  ]);
  follower.check();
  t.match(progress.subnetTrouble, 'this node has 10.244.7.0-24 now, but pods on it still use 10.244.3.0/24');
  t.strictSame([progress.lease?.subnet[4], moved(), gateways()], [OLD, 0, ['10.244.3.1/24']]);
  kernel.apply(kernel.host, [{ verb: 'delete', item: { type: 'link', value: { name: 'pod', kind: 'veth' } } }]);
  follower.check();
  t.strictSame([progress.lease?.subnet[4], progress.subnetTrouble], [NEW, undefined]);
});

t.test('not when it is outside of the network', async (t) => {
  const { progress, follower } = rig(prefix('10.99.0.0/24'));
  follower.check();
  t.match(progress.subnetTrouble, 'node n1: pod CIDR 10.99.0.0/24 is not inside 10.244.0.0/16');
  t.equal(progress.lease?.subnet[4], OLD);
});
