// What is decided from the host before anything is changed.

import t from 'tap';
import { type Prepared, type PrepareInput, prepare } from '../../flanneld/prepare.ts';
import { throwFirst } from '../../kernel/kernel.ts';
import { ip, prefix } from '../../model/ip.ts';
import { merge, type State } from '../../model/state.ts';
import type { Step } from '../../model/steps.ts';
import { fakeHost } from './fixtures/host.ts';
import { HOST, networkOf, NODE_ID, OTHER_NETWORK } from './fixtures/world.ts';

const CONFIG = { interface: { names: [], expressions: [], canReach: undefined }, publicIp: {} };
const NOTHING = { networks: [], subnet: {} };

function prepared(steps: readonly Step[] = [], more: Partial<PrepareInput> = {}, state: State = HOST): Prepared {
  const kernel = fakeHost(state);
  throwFirst(kernel.apply(kernel.host, steps));
  return prepare({
    kernel,
    config: CONFIG,
    network: networkOf([4, 6], { Type: 'vxlan' }),
    nodeId: NODE_ID,
    previous: NOTHING,
    store: undefined,
    ...more,
  });
}

const add = (item: Step['item']): Step => ({ verb: 'add', item }) as Step;
const vxlan = (name: string, vni: number): Step =>
  add({ type: 'link', value: { name, kind: 'vxlan', up: true, vxlan: { vni, port: 8472, device: 'eth0' } } });
const address = (device: string, text: string): Step =>
  add({ type: 'address', value: { device, address: prefix(text) } });

t.test('devices to look at: ours now, and what we left', async (t) => {
  t.same(prepared().devices, ['flannel.1', 'flannel-v6.1']);
  const left = [
    vxlan('flannel.7', 7),
    address('flannel.7', '10.244.1.0/32'),
    vxlan('flannel.8', 8),
    address('flannel.8', '10.99.1.0/32'),
    vxlan('vx9', 9),
    address('vx9', '10.244.9.9/32'),
  ];
  t.same(
    prepared(left).devices,
    ['flannel.1', 'flannel-v6.1', 'flannel.7'],
    'of another network or another name: not ours',
  );
  t.same(prepared(left, { previous: { networks: [OTHER_NETWORK], subnet: {} } }).devices, [
    'flannel.1',
    'flannel-v6.1',
    'flannel.7',
    'flannel.8',
  ]);
});

t.test('whether pods run in the previous subnet', async (t) => {
  const previous = { networks: [prefix('10.244.0.0/16')], subnet: { 4: prefix('10.244.1.0/24') } };
  const bridge = [
    add({ type: 'link', value: { name: 'cni0', kind: 'bridge', up: true } }),
    address('cni0', '10.244.1.1/24'),
  ];
  const port = add({
    type: 'link',
    value: { name: 'veth1', kind: 'veth', up: true, master: 'cni0', peer: { name: 'p1' } },
  });
  const routed: Step[] = [
    add({ type: 'link', value: { name: 'veth2', kind: 'veth', up: true, peer: { name: 'p2' } } }),
    add({ type: 'route', value: { destination: prefix('10.244.1.9/32'), device: 'veth2', protocol: 3 } }),
  ];
  t.equal(prepared([], { previous }).podsInPrevious, false);
  t.equal(prepared(bridge, { previous }).podsInPrevious, false, 'a bridge without pods');
  t.equal(prepared([...bridge, port], { previous }).podsInPrevious, true);
  t.equal(prepared(routed, { previous }).podsInPrevious, true);
  const elsewhere = { ...previous, subnet: { 4: prefix('10.244.2.0/24') } };
  t.equal(prepared([...bridge, port], { previous: elsewhere }).podsInPrevious, false);
});

t.test('a default route by router advertisement', async (t) => {
  const advertised = merge(HOST, {
    routes: [{ destination: prefix('::/0'), via: ip('fe80::99'), device: 'eth0', protocol: 9, metric: 512 }],
  });
  t.same(prepared([], {}, advertised).advertised, ['eth0']);
  t.same(prepared().advertised, [], 'a static one');
  const off: Step = {
    verb: 'change',
    item: { type: 'sysctl', value: { key: 'net/ipv6/conf/eth0/accept_ra', value: '0' } },
  };
  t.same(prepared([off], {}, advertised).advertised, [], 'systemd-networkd handles it');
});

t.test('what is published', async (t) => {
  t.match(prepared().attributes, {
    publicIp: { 4: '192.168.50.1', 6: 'fd00:50::1' },
    backendType: 'vxlan',
    nodeId: NODE_ID,
    backendData: { 4: { VNI: 1 }, 6: { VNI: 1 } },
  });
  const config = { ...CONFIG, publicIp: { 4: ip('203.0.113.7') } };
  t.equal(prepared([], { config }).attributes.publicIp[4], '203.0.113.7');
});

t.test('an address that a person has annotated the node with, unless a flag says another', async (t) => {
  const assignment = { subnet: {}, publicIp: { 4: ip('198.51.100.4'), 6: ip('2001:db8::4') } };
  const store = { own: undefined, peers: [], assignment };
  t.strictSame(prepared([], { store }).attributes.publicIp, assignment.publicIp);
  const config = { ...CONFIG, publicIp: { 4: ip('203.0.113.7') } };
  t.strictSame(prepared([], { store, config }).attributes.publicIp, { 4: '203.0.113.7', 6: '2001:db8::4' });
});

t.test('a backend that the kernel has nothing for either', async (t) => {
  const refused = (type: string) => {
    try {
      prepared([], { network: networkOf([4], { Type: type }) });
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  t.match(refused('ipip'), /backend ipip is not supported in this version, .* \(and this kernel has no ipip links\)$/);
  t.match(refused('WireGuard'), /backend wireguard .* \(and this kernel has no wireguard links\)$/);
  t.match(refused('ipsec'), /backend ipsec is not supported in this version, which has [a-z, -]*$/);
});
