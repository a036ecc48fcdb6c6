// Settings of the host that drop packets of the overlay: held where the device is ours, told where it is not.

import t from 'tap';
import { agentStatus, hasPeers, type Node, startCluster, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';

t.test('strict filtering, checksum offload, forwarding', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  const [first, second] = cluster.nodes as [Node, Node];
  await second.must('sysctl', ['-qw', 'net.ipv4.conf.all.rp_filter=1']);
  cluster.startAgent(first, ['--ip-masq=false']);
  // Only notifications can be in time.
  cluster.startAgent(second, ['--vxlan-tx-checksum=off', '--iptables-resync=600']);
  for (const node of [first, second]) await until(`${node.name}: its peer`, () => hasPeers(node, 1));
  const pods = [await startPod(first, { name: 'a' }), await startPod(second, { name: 'b' })] as const;
  const setting = async (name: string) => (await agentStatus(second))?.host?.find((each) => each.name === name);

  await until('traffic', async () => (await pods[0].probe({ kind: 'ping', to: pods[1].ips[0] as string })).ok);
  const ping = ['-c1', '-W2', '-I', first.underlay[4], pods[1].ips[0] as string];
  t.equal((await first.run('ping', ping)).code, 0, 'a node reaches a pod, though its own address has another way back');
  await second.must('sysctl', ['-qw', 'net.ipv4.conf.flannel/1.rp_filter=1']);
  t.not((await first.run('ping', ping)).code, 0, 'which strict filtering does not let in');
  t.match(await setting('net/ipv4/conf/eth0/rp_filter'), { right: true, note: /^strict/ });

  const offload = () => second.must('ethtool', ['-k', 'flannel.1']);
  t.match(await offload(), /tx-checksumming: off/);
  t.match(await setting('flannel.1 tx-checksum'), { value: 'off', right: true, done: 'held' });
  for (const [what, command] of [
    ['switched on', 'ethtool -K flannel.1 tx on'],
    ['made anew', 'ip link delete flannel.1'],
  ] as const) {
    await second.must('sh', ['-ec', command]);
    const isOff = async () =>
      (await second.run('ethtool', ['-k', 'flannel.1'])).stdout.includes('tx-checksumming: off');
    await until(what, isOff, 10_000).catch(() => undefined);
    t.ok(await isOff(), `${what}: off again`);
  }
  t.match(
    await first.must('ethtool', ['-k', 'flannel.1']),
    /tx-checksumming: on/,
    'elsewhere it is as the kernel has it',
  );
  const tcp = await pods[0].probe({ kind: 'tcp', to: pods[1].ips[0] as string });
  t.ok(tcp.ok, tcp.detail);
  t.match(await setting('cni0 nf_call_iptables'), { value: /^[01]$/, done: 'reported' });
  t.match(await setting('net/ipv4/conf/flannel.1/rp_filter'), { value: '2', right: true });
});
