// An address that is used again is reached with the first packet, whatever MAC its neighbours remember.

import t from 'tap';
import { attach, makeNode } from '../support/cni.ts';
import { linksOf, makeNamespace, type TestNamespace } from '../support/namespace.ts';
import { pings } from '../support/traffic.ts';

const ADDRESSES = ['10.5.1.9', 'fd00:5:0:1::9'] as const;
/** Asks for both addresses, and for a MAC that does not follow from the first. */
const asking = (last: number, enabledad = false) => ({
  delegate: { isDefaultGateway: true, enabledad },
  runtimeConfig: { mac: `02:00:5e:10:00:0${last}`, ips: [...ADDRESSES] },
});

/** What the neighbour remembers of an address: its MAC. */
const remembered = (where: TestNamespace, address: string): string | undefined =>
  /lladdr (\S+)/.exec(where.must(`ip neighbour show ${address}`))?.[1];

for (const enabledad of [false, true]) {
  t.test(`a pod with the address of another, enabledad ${enabledad}`, async (t) => {
    const node = makeNode(t);
    const [neighbour] = attach(t, node, 'neighbour');
    const first = makeNamespace(t, 'first');
    const call = { config: node.config(asking(1)), netns: first.path, containerId: 'first' };
    t.equal(node.cni('ADD', call).status, 0);
    for (const address of ADDRESSES) {
      for (const where of [neighbour, node.namespace]) {
        t.ok(pings(where, address));
        t.equal(remembered(where, address), '02:00:5e:10:00:01');
      }
    }
    t.equal(node.cni('DEL', call).status, 0);
    const second = makeNamespace(t, 'second');
    const config = node.config(asking(2, enabledad));
    t.equal(node.cni('ADD', { config, netns: second.path, containerId: 'second' }).status, 0);
    const addresses = () => second.must('ip -6 address show dev eth0 scope global');
    t.notMatch(addresses(), /tentative|dadfailed/);
    for (const address of ADDRESSES) {
      t.equal(remembered(neighbour, address), '02:00:5e:10:00:02', `the neighbour knows of ${address}`);
      for (const where of [neighbour, node.namespace]) t.ok(pings(where, address), 'the first packet');
    }
  });
}

t.test('enabledad: an address that somebody on the bridge has is refused, and given back', async (t) => {
  const node = makeNode(t);
  const [neighbour] = attach(t, node, 'neighbour');
  neighbour.must(`ip address add ${ADDRESSES[1]}/64 dev eth0 nodad`);
  const files = node.files();
  const pod = makeNamespace(t, 'pod');
  const { output } = node.cni('ADD', { config: node.config(asking(1, true)), netns: pod.path, containerId: 'pod' });
  t.match(output, { code: 11, msg: /fd00:5:0:1::9 .* duplicate/ });
  t.strictSame(node.files(), files);
  t.strictSame(linksOf(pod), ['lo']);
});
