// From any state of the host to any other: what is there afterwards is what a fresh start gives, whatever was there before,
// in the order of the list and in random order (tailscale's TestRouterStates). Peers, devices and rules that are stale go;
// what isn't ours stays.

import t, { type Test } from 'tap';
import { applyDifference, examine, printDifference, type Target } from '../../flanneld/difference.ts';
import { targetOf } from '../../flanneld/hold.ts';
import type { NetworkConfig } from '../../flanneld/network-config.ts';
import { prepare } from '../../flanneld/prepare.ts';
import type { FakeKernel } from '../../kernel/fake.ts';
import { ip, mac, prefix } from '../../model/ip.ts';
import type { Step } from '../../model/steps.ts';
import { count } from '../support/count.ts';
import { below, random } from '../support/seed.ts';
import { dumpSorted, fakeHost } from './fixtures/host.ts';
import { apply, CONFIG, SETTINGS, STATES, step, target, type Wanted } from './fixtures/target.ts';
import { OTHER_NETWORK, ourLease, peerLease } from './fixtures/world.ts';

/** One run, which must succeed and leave nothing to do. */
function settle(t: Test, kernel: FakeKernel, wanted: Wanted): void {
  const { failures, rulesError } = applyDifference(kernel, examine(kernel, target(kernel, wanted)));
  t.same(
    failures.map(({ error }) => error.message),
    [],
    `${wanted.what}: nothing fails`,
  );
  t.equal(rulesError, undefined);
  t.same(
    printDifference(examine(kernel, target(kernel, wanted))),
    [],
    `${wanted.what}: a second run finds nothing to do`,
  );
}

function fresh(t: Test, wanted: Wanted): string {
  const kernel = fakeHost();
  settle(t, kernel, wanted);
  return dumpSorted(kernel);
}

/** The MAC of a device that stays is kept: the dumps of two ways to a state differ in nothing but that. */
const sameBut = (text: string): string => text.replaceAll(/(dev|add) (flannel\S*)( mtu \d+)? address \S+/g, '$1 $2$3');

t.test('states in their order, then in random order', async (t) => {
  const expected = STATES.map((wanted) => sameBut(fresh(t, wanted)));
  const kernel = fakeHost();
  const next = random('reconcile');
  const anyOrder = Array.from({ length: count(100) * STATES.length }, () => below(STATES.length, next));
  const order = [...STATES.keys(), ...anyOrder];
  for (const index of order) {
    settle(t, kernel, STATES[index] as Wanted);
    t.equal(sameBut(dumpSorted(kernel)), expected[index], (STATES[index] as Wanted).what);
  }
});

t.test('what was taken away comes back, with all peers', async (t) => {
  const wanted = STATES[5] as Wanted;
  const expected = fresh(t, wanted);
  const gone: readonly [string, Step][] = [
    ['the device', step('delete', { type: 'link', value: { name: 'flannel.1', kind: 'vxlan' } })],
    [
      'its address',
      step('delete', { type: 'address', value: { device: 'flannel.1', address: prefix('10.244.1.0/32') } }),
    ],
    [
      'a route',
      step('delete', { type: 'route', value: { destination: prefix('10.244.2.0/24'), device: 'flannel.1' } }),
    ],
    [
      'a neighbour',
      step('delete', {
        type: 'neighbour',
        value: { device: 'flannel.1', ip: ip('10.244.2.0'), mac: mac('02:00:00:00:00:02') },
      }),
    ],
    [
      'a forwarding entry',
      step('delete', {
        type: 'fdb',
        value: { device: 'flannel.1', mac: mac('02:00:00:00:00:02'), destination: ip('192.168.50.2') },
      }),
    ],
    [
      'the right MAC',
      {
        verb: 'change',
        item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', mac: mac('06:00:00:00:00:99') } },
      },
    ],
    ['up', { verb: 'change', item: { type: 'link', value: { name: 'flannel.1', kind: 'vxlan', up: false } } }],
  ];
  for (const [what, taking] of gone) {
    const kernel = fakeHost();
    const held = target(kernel, wanted);
    applyDifference(kernel, examine(kernel, held));
    apply(kernel, taking);
    applyDifference(kernel, examine(kernel, held));
    t.equal(dumpSorted(kernel), expected, what);
  }
  const kernel = fakeHost();
  settle(t, kernel, wanted);
  kernel.commit({ family: 'inet', table: 'flannel', commands: [{ verb: 'delete', type: 'table' }] });
  settle(t, kernel, wanted);
  t.equal(dumpSorted(kernel), expected, 'the rules');
});

t.test('leftovers of flannel are taken over, what is not ours stays', async (t) => {
  const kernel = fakeHost();
  const wanted: Wanted = {
    what: 'host-gw',
    options: { Type: 'host-gw' },
    families: [4],
    peers: [peerLease([4], 2, { type: 'host-gw' })],
  };
  const route = (destination: string, protocol: number, via = '192.168.50.2') =>
    step('add', { type: 'route', value: { destination: prefix(destination), via: ip(via), device: 'eth0', protocol } });
  const foreign = [
    route('10.244.70.0/24', 4),
    route('10.244.71.0/24', 3, '192.168.50.77'),
    route('10.99.3.0/24', 251),
    route('172.20.0.0/16', 3),
  ];
  apply(
    kernel,
    step('add', {
      type: 'link',
      value: {
        name: 'flannel.1',
        kind: 'vxlan',
        up: true,
        mtu: 1450,
        vxlan: { vni: 1, port: 8472, device: 'eth0', local: ip('192.168.50.1') },
      },
    }),
    step('add', { type: 'address', value: { device: 'flannel.1', address: prefix('10.244.1.0/32') } }),
    step('add', {
      type: 'route',
      value: {
        destination: prefix('10.244.3.0/24'),
        via: ip('10.244.3.0'),
        device: 'flannel.1',
        onlink: true,
        protocol: 3,
      },
    }),
    route('10.244.2.0/24', 3),
    route('10.244.8.0/24', 3),
    ...foreign,
  );
  settle(t, kernel, wanted);
  const expected = fakeHost();
  apply(expected, ...foreign);
  settle(t, expected, wanted);
  t.equal(
    dumpSorted(kernel),
    dumpSorted(expected),
    'the old device and routes by peers are gone; static, other gateways, other networks stay',
  );
});

t.test('two agents on one host never see each other', async (t) => {
  const kernel = fakeHost();
  const wanted = STATES[1] as Wanted;
  settle(t, kernel, wanted);
  const ours = dumpSorted(kernel).split('\n');
  const other = otherAgent(kernel);
  applyDifference(kernel, examine(kernel, other));
  const both = dumpSorted(kernel);
  t.same(
    ours.filter((line) => !both.includes(line)),
    [],
    'the other takes nothing of ours',
  );
  t.same(printDifference(examine(kernel, target(kernel, wanted))), [], 'and we nothing of the other');
  t.match(both, /flannel\.9 .*10\.99\.4\.0|10\.99\.4\.0.* flannel\.9/);
});

/** An agent with 10.99.0.0/16 and VNI 9. */
function otherAgent(kernel: FakeKernel): Target {
  const network: NetworkConfig = {
    families: {
      4: {
        network: OTHER_NETWORK,
        subnetLength: 24,
        subnetMin: prefix('10.99.1.0/24'),
        subnetMax: prefix('10.99.255.0/24'),
      },
    },
    backend: { type: 'vxlan', options: { VNI: 9 } },
  };
  const prepared = prepare({
    kernel,
    config: CONFIG,
    network,
    nodeId: 'other',
    previous: { networks: [], subnet: {} },
    store: undefined,
  });
  const self = { ...ourLease([4]), subnet: { 4: prefix('10.99.1.0/24') } };
  const peer = {
    ...peerLease([4], 2),
    subnet: { 4: prefix('10.99.4.0/24') },
    backendData: { 4: { VNI: 9, VtepMAC: '02:00:00:00:00:02' } },
  };
  return targetOf(prepared, SETTINGS, self, [peer], true);
}

t.test('without removals nothing goes', async (t) => {
  const kernel = fakeHost();
  settle(t, kernel, STATES[1] as Wanted);
  const before = dumpSorted(kernel);
  settle(t, kernel, { ...(STATES[0] as Wanted), removals: false });
  t.equal(dumpSorted(kernel), before);
});
