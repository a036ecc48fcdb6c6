// Two agents started at the same instant with exactly two free subnets: both get one, every time. flannel loses such a
// race in about one start of nine (flannel.md, defect A).

import t from 'tap';
import { agentStatus, PREFIX, startCluster, stopAgent, until } from '../../examples/cluster/cluster.ts';
import { count } from '../support/count.ts';

/** Two subnets: SubnetMin to SubnetMax. */
const NETWORK = {
  Network: '10.244.0.0/16',
  SubnetMin: '10.244.7.0',
  SubnetMax: '10.244.8.0',
  Backend: { Type: 'host-gw' },
};

t.test('defect A, report 7, report 8: a race for the last two subnets', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  for (let round = 1; round <= count(50); round++) {
    const agents = cluster.nodes.map((node) => cluster.startAgent(node));
    const subnets = await Promise.all(
      cluster.nodes.map(async (node) => {
        await until(`${node.name}: a subnet`, async () => (await agentStatus(node))?.ready === true);
        return /FLANNEL_SUBNET=(.*)/.exec(await node.must('cat', ['/run/flannel/subnet.env']))?.[1];
      }),
    );
    t.same(subnets.sort(), ['10.244.7.1/24', '10.244.8.1/24'], `round ${round}`);
    for (const node of cluster.nodes)
      t.notMatch(cluster.agentLog(node), /our lease is not in the store/, 'nobody misses its own lease');
    await Promise.all(agents.map(stopAgent));
    await cluster.etcdctl('del', '--prefix', `${PREFIX}/subnets`);
    for (const node of cluster.nodes)
      await node.must('sh', ['-c', 'rm -rf /run/flannel /var/lib/flannel; ip route flush proto 251']);
  }
});
