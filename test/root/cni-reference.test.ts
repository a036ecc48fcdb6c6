// Beside the reference plugins, as Debian packages them: theirs with our address management, theirs before ours on one
// bridge, ours before theirs in a chain.

import { join } from 'node:path';
import t from 'tap';
import { attach, makeNode, REFERENCE } from '../support/cni.ts';
import { linksOf, makeNamespace } from '../support/namespace.ts';
import { pings } from '../support/traffic.ts';

for (const cniVersion of ['0.4.0', '1.0.0']) {
  t.test(`${cniVersion}: Go bridge with flannel-ipam`, async (t) => {
    const node = makeNode(t);
    const ipam = {
      type: 'flannel-ipam',
      dataDir: join(node.directory, 'networks'),
      ranges: [[{ subnet: '10.7.0.0/24' }], [{ subnet: 'fd00:7::/64' }]],
    };
    const base = {
      cniVersion,
      name: 'go',
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      isDefaultGateway: true,
      ipam,
    };
    const config = { ...base, dataDir: join(node.directory, 'flannel') };
    const pods = ['one', 'two'].map((containerId) => {
      const pod = makeNamespace(t, containerId);
      const { status, output } = node.cni('ADD', { config, containerId, netns: pod.path }, REFERENCE);
      t.equal(status, 0, JSON.stringify(output));
      return { containerId, pod, output };
    });
    const [one, two] = pods as [(typeof pods)[0], (typeof pods)[0]];
    t.strictSame(
      one.output.ips.map(({ address }) => address),
      ['10.7.0.2/24', 'fd00:7::2/64'],
    );
    for (const to of two.output.ips.flatMap(({ address, gateway }) => [address, gateway])) {
      // Go's bridge detects duplicates of its own IPv6 address for a second.
      t.ok(pings(one.pod, to) || pings(one.pod, to) || pings(one.pod, to), to);
    }
    t.ok(node.files().includes('flannel/go/one:eth0.json'), 'with a record');
    for (const { containerId, pod, output } of pods) {
      const call = { config: { ...config, prevResult: output }, containerId, netns: pod.path };
      t.match(node.cni('CHECK', call, REFERENCE), { status: 0, output: {} });
      t.equal(node.cni('DEL', call, REFERENCE).status, 0);
      t.match(node.cni('CHECK', { ...call, config: { ...call.config, type: 'flannel-ipam' } }), {
        status: 1,
        output: { code: 101 },
      });
    }
    t.strictSame(node.files(), []);
  });
}

t.test('pods that Go attached: on the same bridge, deleted by ours', async (t) => {
  const node = makeNode(t, [4]);
  const dataDir = join(node.directory, 'networks');
  const ipam = { type: 'host-local', dataDir, ranges: [[{ subnet: '10.5.1.0/24' }]] };
  const go = {
    cniVersion: '1.0.0',
    name: 'cbr0',
    type: 'bridge',
    bridge: 'cni0',
    isDefaultGateway: true,
    mtu: 1450,
    ipam,
  };
  const theirs = makeNamespace(t, 'theirs');
  t.equal(node.cni('ADD', { config: go, containerId: 'theirs', netns: theirs.path }, REFERENCE).status, 0);
  const [ours, { ips }] = attach(t, node, 'ours', { cniVersion: '1.0.0' });
  t.equal(ips[0]?.address, '10.5.1.3/24', 'one store');
  t.ok(pings(ours, '10.5.1.2') && pings(theirs, '10.5.1.3'), 'one bridge');

  const call = { config: node.config({ cniVersion: '1.0.0' }), containerId: 'theirs', netns: theirs.path };
  t.match(
    node.cni('ADD', { ...call, netns: makeNamespace(t, 'again').path }),
    { output: { code: 104 } },
    'known to be there',
  );
  t.equal(node.cni('DEL', call).status, 0);
  t.strictSame(linksOf(theirs), ['lo']);
  t.notOk(node.files().includes('networks/cbr0/10.5.1.2'));
  t.ok(pings(ours, '10.5.1.1'));

  t.equal(
    node.cni('DEL', { config: go, containerId: 'ours', netns: ours.path }, REFERENCE).status,
    0,
    'and the other way round',
  );
  t.strictSame(linksOf(ours), ['lo']);
  t.equal(node.cni('DEL', { config: node.config(), containerId: 'ours', netns: ours.path }).status, 0);
  t.strictSame(node.files(), []);
});

t.test('ours, then portmap, bandwidth and firewall of the reference', async (t) => {
  const node = makeNode(t, [4]);
  const [pod, first] = attach(t, node, 'pod1', { cniVersion: '1.0.0' });
  const chain = [
    {
      type: 'portmap',
      snat: true,
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
    },
    { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 800_000 },
    { type: 'firewall' },
  ];
  let result = first;
  for (const plugin of chain) {
    const config = { cniVersion: '1.0.0', name: 'cbr0', ...plugin, prevResult: result };
    const { status, output } = node.cni('ADD', { config, netns: pod.path }, REFERENCE);
    t.equal(status, 0, `${plugin.type}: ${JSON.stringify(output)}`);
    result = output;
  }
  const call = { config: node.config({ cniVersion: '1.0.0', prevResult: result }), netns: pod.path };
  t.match(node.cni('CHECK', call), { status: 0, output: {} });
  t.ok(pings(pod, '10.5.1.1'));
  for (const plugin of chain.toReversed()) {
    const config = { cniVersion: '1.0.0', name: 'cbr0', ...plugin, prevResult: result };
    t.equal(node.cni('DEL', { config, netns: pod.path }, REFERENCE).status, 0, plugin.type);
  }
  t.equal(node.cni('DEL', call).status, 0);
  t.strictSame(node.files(), []);
});
