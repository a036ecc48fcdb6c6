// Which changes of the host make the agent look again.

import t from 'tap';
import { concernOf } from '../../flanneld/relevance.ts';
import type { Change } from '../../kernel/kernel.ts';
import { prefix } from '../../model/ip.ts';
import { NETWORKS, siteOf } from './fixtures/world.ts';

const PREPARED = { site: siteOf([4, 6]), devices: ['flannel.1', 'flannel-v6.1'], networks: [NETWORKS[4], NETWORKS[6]] };
const link = (device: string): Change => ({ type: 'link', device });
const on = (type: 'address' | 'neighbour', device: string | undefined): Change => ({ type, device });
const route = (destination: string, device?: string): Change => ({
  type: 'route',
  destination: prefix(destination),
  device,
});
const rules = (table: string, part?: string): Change => ({ type: 'rules', table, part });

const CASES: readonly (readonly [Change, 'underlay' | 'host' | undefined])[] = [
  [link('flannel.1'), 'host'],
  [link('flannel-v6.1'), 'host'],
  [link('eth0'), 'underlay'],
  [link('veth1234'), undefined],
  [link('cni0'), undefined],
  [on('address', 'flannel.1'), 'host'],
  [on('address', 'eth0'), 'underlay'],
  [on('address', 'cni0'), undefined],
  [on('address', undefined), 'underlay'],
  [on('neighbour', 'flannel.1'), 'host'],
  [on('neighbour', 'eth0'), undefined],
  [on('neighbour', undefined), undefined],
  [route('10.244.2.0/24', 'flannel.1'), 'host'],
  [route('10.244.2.0/24'), 'host'],
  [route('10.0.0.0/8', 'wg0'), 'host'],
  [route('fd00:244:0:2::/64', 'eth7'), 'host'],
  [route('0.0.0.0/0', 'eth7'), 'underlay'],
  [route('::/0', 'eth0'), 'underlay'],
  [route('192.168.50.0/24', 'eth0'), 'host'],
  [route('172.17.0.0/16', 'docker0'), undefined],
  [route('10.244.1.7/32', 'veth1234'), undefined],
  [route('fd00:244:0:1::7/128', 'veth1234'), undefined],
  [rules('flannel'), 'host'],
  [rules('flannel', 'masquerade-10.244.0.0-16'), 'host'],
  [rules('flannel', 'masquerade-10.99.0.0-16'), undefined],
  [rules('flannel', 'cni-masquerade'), undefined],
  [rules('kube-proxy'), undefined],
  [{ type: 'overrun' }, 'underlay'],
];

t.test('which changes concern the agent, and how', async (t) => {
  for (const [change, expected] of CASES) t.equal(concernOf(change, PREPARED), expected, JSON.stringify(change));
});
