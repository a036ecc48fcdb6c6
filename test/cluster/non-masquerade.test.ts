// Servers outside the network that pods are to be known to: they see and reach the addresses of pods, whether the agent
// masquerades for everybody else or the CNI plugin does.

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { DUAL_NETWORK, hasSubnet, type Node, OUTSIDE, startCluster, until } from '../../examples/cluster/cluster.ts';
import { endChild, type Machine } from '../../examples/cluster/machine.ts';
import { startPod } from '../../examples/cluster/pod.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };
const EXEMPT = '--non-masquerade-cidrs=203.0.113.0/24,2001:db8::/32';
/** Another address of the router, which is not exempt. */
const HIDING = { 4: '198.51.100.10', 6: '2001:db9::10' } as const;

/** Answers each connection with the address that it came from. */
const SERVER = `
const { createServer } = require('node:net');
createServer((socket) => socket.end(socket.remoteAddress.replace('::ffff:', ''))).listen(7, '::', () => console.log('ready'));
`;
const ASK = `
const socket = require('node:net').connect({ host: process.argv[1], port: 7, timeout: 5000 }, () => {});
socket.on('data', (data) => process.stdout.write(data)).on('error', (error) => process.stdout.write(error.code));
socket.on('timeout', () => socket.destroy());
`;

async function serve(t: Test, machine: Machine): Promise<void> {
  const child = machine.start(process.execPath, ['-e', SERVER]);
  t.teardown(() => endChild(child));
  await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line');
}

for (const [who, flags] of [
  ['the agent', ['--ip-masq']],
  ['the CNI plugin', ['--ip-masq=false']],
] as const) {
  t.test(`${who} masquerades`, async (t) => {
    const cluster = await startCluster({ nodes: 1 });
    t.teardown(() => cluster.down());
    await cluster.putConfig(NETWORK);
    const node = cluster.nodes[0] as Node;
    const { router } = cluster;
    await router.must('sh', [
      '-ec',
      `ip addr add ${HIDING[4]}/32 dev lo; ip addr add ${HIDING[6]}/128 dev lo nodad
       ip route add 10.244.0.0/16 via ${node.underlay[4]}; ip -6 route add fd00:244::/48 via ${node.underlay[6]}`,
    ]);
    await serve(t, router);
    cluster.startAgent(node, [...flags, EXEMPT]);
    await until('its subnet', () => hasSubnet(node));
    t.match(
      await node.must('cat', ['/run/flannel/subnet.env']),
      'FLANNEL_NON_MASQUERADE_CIDRS=203.0.113.0/24,2001:db8::/32\n',
    );
    const pod = await startPod(node, { name: 'a' });
    const ask = (to: string) => node.must('ip', ['netns', 'exec', 'a', process.execPath, '-e', ASK, to]);
    for (const [at, family] of ([4, 6] as const).entries()) {
      const address = pod.ips[at] as string;
      t.equal(await ask(OUTSIDE[family]), address, `IPv${family}: the server sees the pod`);
      t.equal(await ask(HIDING[family]), node.underlay[family], `IPv${family}: another sees the node`);
      const reached = await router.run('ping', ['-c1', '-W5', '-I', OUTSIDE[family], address]);
      t.equal(reached.code, 0, `IPv${family}: the server reaches the pod`);
    }
  });
}
