// Two agents on one host, with networks of their own (flannel's functional test "multi"): each keeps to its own entries.

import t from 'tap';
import { type Node, startCluster, stopAgent, until } from '../../examples/cluster/cluster.ts';

const FIRST = {
  prefix: '/vxlan/network',
  file: '/run/flannel/vxlan.env',
  config: { Network: '10.11.0.0/16', Backend: { Type: 'vxlan' } },
};
const SECOND = {
  prefix: '/hostgw/network',
  file: '/run/flannel/hostgw.env',
  config: { Network: '10.12.0.0/16', Backend: { Type: 'host-gw' } },
};

const flagsOf = ({ prefix, file }: typeof FIRST | typeof SECOND) => [
  `--etcd-prefix=${prefix}`,
  `--subnet-file=${file}`,
  '--iptables-resync=1',
];

async function state(node: Node): Promise<string> {
  return node.must('sh', [
    '-c',
    'ip route show proto 251; ip neigh show nud permanent; bridge fdb show dev flannel.1; nft list ruleset',
  ]);
}

const part = (text: string, network: string) =>
  text
    .split('\n')
    .filter((line) => line.includes(network))
    .join('\n');

t.test('two networks on one host', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  for (const { prefix, config } of [FIRST, SECOND])
    await cluster.etcdctl('put', `${prefix}/config`, JSON.stringify(config));
  const agents = cluster.nodes.map((node) =>
    [FIRST, SECOND].map((network) => cluster.startAgent(node, flagsOf(network), { name: network.prefix.slice(1, 6) })),
  );
  const node = cluster.nodes[0] as Node;
  await until('both agents have programmed their peer', async () => {
    const text = await state(node);
    return (
      /10\.11\.\d+\.0\/24 via .* flannel\.1/.test(text) &&
      /10\.12\.\d+\.0\/24 via 192\.168\.50\.2 dev eth0/.test(text) &&
      text.includes('10.11.0.0/16') &&
      text.includes('10.12.0.0/16')
    );
  });
  const both = await state(node);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  t.equal(await state(node), both, 'several resyncs of both change nothing');

  const [first, second] = agents[0] as [(typeof agents)[0][0], (typeof agents)[0][0]];
  await stopAgent(first as never);
  await node.must(`${process.cwd()}/build/bin/flanneld`, ['cleanup', `--subnet-file=${FIRST.file}`]);
  const after = await state(node);
  t.notMatch(after, /10\.11\./, 'cleanup of one takes everything of it');
  t.equal(part(after, '10.12.'), part(both, '10.12.'), 'and nothing of the other');
  t.equal((await node.run('test', ['-e', SECOND.file])).code, 0);
  t.notOk((second as { exitCode: number | null }).exitCode, 'the other agent runs on');
});
