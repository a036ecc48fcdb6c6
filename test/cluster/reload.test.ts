// A network configuration that is changed while agents run, in etcd and in a file.

import t from 'tap';
import { agentStatus, hasPeers, type Node, PREFIX, startCluster, until } from '../../examples/cluster/cluster.ts';
import { startPod } from '../../examples/cluster/pod.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
const base = (backend: object = {}) => ({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', ...backend } });
const config = async (node: Node) => (await agentStatus(node))?.troubles?.config;
const subnetFile = (node: Node) => node.must('cat', ['/run/flannel/subnet.env']);
const device = (node: Node) => node.must('ip', ['-d', '-o', 'link', 'show', 'flannel.1']);

t.test('in etcd', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(base());
  const nodes = cluster.nodes as unknown as readonly [Node, Node];
  const [node] = nodes;
  for (const each of nodes) cluster.startAgent(each, ['--iptables-resync=600']);
  for (const each of nodes) await until(`${each.name}: its peer`, () => hasPeers(each, 1));
  const pods = [await startPod(node, { name: 'a' }), await startPod(nodes[1], { name: 'b' })] as const;
  const flows = async (what: string) => {
    const ping = async () => (await pods[0].probe({ kind: 'ping', to: pods[1].ips[0] as string })).ok;
    await until(what, ping, 10_000).catch(() => undefined);
    t.ok(await ping(), what);
  };
  await flows('at the start');
  const first = await device(node);

  await cluster.putConfig(base({ MTU: 1400 }));
  for (const each of nodes) {
    await until(`${each.name}: MTU`, async () => (await subnetFile(each)).includes('FLANNEL_MTU=1350\n'));
  }
  t.match(await device(node), / mtu 1350 /);
  t.equal((await device(node)).split(':')[0], first.split(':')[0], 'the device is the same');
  await flows('with another MTU');

  await cluster.putConfig(base({ MTU: 1400, DirectRouting: true }));
  const direct = async () =>
    (await node.must('ip', ['route', 'show', 'proto', '251'])).includes('via 192.168.50.2 dev eth0');
  await until('direct routing', direct);
  await flows('with direct routing');

  await cluster.putConfig(base({ Learning: true }));
  // For a moment there is no device.
  const learns = async () => {
    const { stdout } = await node.run('ip', ['-d', '-o', 'link', 'show', 'flannel.1']);
    return stdout.includes('vxlan id') && !stdout.includes('nolearning');
  };
  await until('learning', learns);
  await until('its peer', () => hasPeers(node, 1));
  t.match(await device(node), / mtu 1450 /);
  await flows('with learning');
  const now = [await device(node), await subnetFile(node)];

  await cluster.putConfig(base({ VNI: 7, MTU: 1300 }));
  await until('the report', async () => (await config(node)) !== undefined);
  t.equal(await config(node), 'restart needed: Backend.VNI (1 to 7)');
  await cluster.etcdctl('put', `${PREFIX}/config`, '{"Network":');
  await until('another', async () => (await config(node))?.includes('not JSON') ?? false);
  t.strictSame([await device(node), await subnetFile(node)], now, 'neither changes anything');
  const readyz = await node.must('curl', [
    '-s',
    '--unix-socket',
    '/run/flannel/subnet.sock',
    'http://localhost/readyz',
  ]);
  t.match(readyz, /^ready\nthe new network configuration can't be used, the old one holds: /);
  t.match((await node.run(FLANNELD, ['status'])).stdout, /the old one holds/);
  await cluster.etcdctl('del', `${PREFIX}/config`);
  await until('none', async () => (await config(node))?.includes('there is none any more') ?? false);
  await flows('with none');

  cluster.etcdProcess.kill('SIGKILL');
  await until('etcd is missed', async () => (await agentStatus(node))?.trouble !== undefined);
  await cluster.startEtcd();
  await cluster.putConfig(base({ MTU: 1400 }));
  await until('after etcd was away', async () => (await subnetFile(node)).includes('FLANNEL_MTU=1350\n'));
  await until('nothing is amiss', async () => (await config(node)) === undefined);
  await flows('at the end');
});

t.test('in a file', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  const [node] = cluster.nodes as [Node];
  const put = (value: object) =>
    node.must('sh', ['-c', 'cat >/run/net-conf.new && mv /run/net-conf.new /run/net-conf.json'], {
      input: JSON.stringify(value),
    });
  await put(base());
  cluster.startAgent(node, ['--subnet-mgr=file', '--net-config-path=/run/net-conf.json']);
  await until('ready', async () => (await agentStatus(node))?.ready === true);
  await put(base({ MTU: 1400 }));
  await until('MTU', async () => (await subnetFile(node)).includes('FLANNEL_MTU=1350\n'));
  await put({ ...base({ MTU: 1300 }), Network: '10.0.0.0/8' });
  await until('the report', async () => (await config(node)) !== undefined);
  t.equal(await config(node), 'restart needed: Network ("10.244.0.0/16" to "10.0.0.0/8")');
  t.match(await subnetFile(node), 'FLANNEL_MTU=1350\n');
  await node.must('rm', ['/run/net-conf.json']);
  await until('none', async () => (await config(node))?.includes('there is none any more') ?? false);
  t.equal((await agentStatus(node))?.ready, true);
});
