// Two nodes share a leases file, and there is no etcd.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import t from 'tap';
import {
  agentStatus,
  DUAL_NETWORK,
  hasPeers,
  hasSubnet,
  type Node,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';

const NETWORK = { ...DUAL_NETWORK, Backend: { Type: 'vxlan' } };

t.test('leases in a file', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  cluster.etcdProcess.kill('SIGKILL');
  const [first, second] = cluster.nodes as [Node, Node];
  const config = `${cluster.logs}/net-conf.json`;
  const leases = `${cluster.logs}/leases.json`;
  const flags = ['--subnet-mgr=file', `--net-config-path=${config}`, `--leases-file=${leases}`];
  const replace = (path: string, text: string) => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };

  const agent = cluster.startAgent(first, flags);
  await until('it waits', async () => (await agentStatus(first)) !== undefined || cluster.agentLog(first) !== '');
  t.match(cluster.agentLog(first), /net-conf\.json: there is no such file/);
  replace(config, JSON.stringify(NETWORK));
  await until('a node by itself', () => hasSubnet(first));
  t.match(
    await first.must('cat', ['/run/flannel/subnet.env']),
    /FLANNEL_SUBNET=10\.244\.1\.1\/24/,
    'has the first subnet',
  );

  cluster.startAgent(second, flags);
  for (const node of cluster.nodes) await until(`${node.name}: its peer`, () => hasPeers(node, 1));
  const pods = [await startPod(first, { name: 'a' }), await startPod(second, { name: 'b' })] as const;
  const flows = async () => {
    const probes = pods.flatMap((from) =>
      pods.flatMap((to) => to.ips.map((ip) => from.probe({ kind: 'ping', to: ip }))),
    );
    return (await Promise.all(probes)).every(({ ok }) => ok);
  };
  await until('traffic', flows, 10_000).catch(() => undefined);
  t.ok(await flows(), 'pods reach each other');

  const good = readFileSync(leases, 'utf8');
  replace(leases, good.slice(0, -20));
  await until('trouble', async () => (await agentStatus(first))?.trouble !== undefined, 5000).catch(() => undefined);
  t.match(await agentStatus(first), { trouble: /leases\.json: not JSON/, peers: [{ state: 'programmed' }] });
  t.ok(await flows(), 'a broken file changes nothing');
  replace(leases, good);
  await until('no trouble', async () => (await agentStatus(first))?.trouble === undefined, 5000).catch(() => undefined);
  t.equal((await agentStatus(first))?.trouble, undefined);

  const peer =
    '{"Subnet":"10.244.9.0/24","PublicIP":"192.168.50.9","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}';
  replace(leases, good.replace('[\n', `[\n  ${peer},\n`));
  for (const node of cluster.nodes)
    await until(`${node.name}: the peer that was written in`, () => hasPeers(node, 2), 5000);
  t.match(await second.must('ip', ['route', 'show', 'dev', 'flannel.1']), /10\.244\.9\.0\/24 via 10\.244\.9\.0/);
  replace(leases, good);
  for (const node of cluster.nodes) await until(`${node.name}: it is gone`, () => hasPeers(node, 1), 5000);

  await stopAgent(agent);
  cluster.startAgent(first, flags);
  await until('after a restart', () => hasPeers(first, 1));
  t.equal(readFileSync(leases, 'utf8'), good, 'a restart changes nothing');
  t.ok(await flows());
});
