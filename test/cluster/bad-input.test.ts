// Bad input: one line that names the key or flag and the value, an exit code, nothing changed on the host. etcd trouble:
// one line that names the endpoint, tried again, not ready, never an exit.

import t from 'tap';
import {
  type Cluster,
  ETCD,
  hasSubnet,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';

const FLANNELD = `${process.cwd()}/build/bin/flanneld`;
const SECRETS = '/run/secrets';

/** Everything an agent may change on a host. */
const hostState = (node: Node): Promise<string> =>
  node.must('sh', [
    '-c',
    'ip -d link; ip addr | grep -v valid_lft | sed "s/ tentative//"; ip route; ip -6 route; ip neigh show nud permanent; nft list ruleset; sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding; find /run /var/lib -xdev | sort',
  ]);

interface Refusal {
  readonly what: string;
  readonly config?: string;
  readonly flags?: readonly string[];
  /** What the line must name. */
  readonly names: readonly string[];
}

const REFUSALS: readonly Refusal[] = [
  { what: 'configuration that is no JSON', config: '{"Network": "10.1', names: ['config'] },
  { what: 'configuration without Network', config: '{"Backend":{"Type":"vxlan"}}', names: ['Network'] },
  { what: 'Network that is no prefix', config: '{"Network":"ten/8"}', names: ['Network', 'ten/8'] },
  { what: 'network too small', config: '{"Network":"10.1.0.0/30"}', names: ['Network', '10.1.0.0/30'] },
  {
    what: 'SubnetLen that does not fit',
    config: '{"Network":"10.1.0.0/16","SubnetLen":17}',
    names: ['SubnetLen', '17'],
  },
  {
    what: 'SubnetMin outside',
    config: '{"Network":"10.1.0.0/16","SubnetMin":"10.2.0.0"}',
    names: ['SubnetMin', '10.2.0.0'],
  },
  {
    what: 'unknown backend',
    config: '{"Network":"10.1.0.0/16","Backend":{"Type":"pigeon"}}',
    names: ['Backend', 'pigeon'],
  },
  {
    what: 'a backend of flannel that is not here',
    config: '{"Network":"10.1.0.0/16","Backend":{"Type":"wireguard"}}',
    names: ['Backend.Type', 'wireguard', 'vxlan'],
  },
  {
    what: 'a command that needs a shell',
    config: '{"Network":"10.1.0.0/16","Backend":{"Type":"extension","SubnetAddCommand":"a | b"}}',
    names: ['Backend.SubnetAddCommand', '"|"', 'sh -c'],
  },
  {
    what: 'backend option of the wrong type',
    config: '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan","VNI":"one"}}',
    names: ['VNI', 'one'],
  },
  { what: 'interface that is not there', flags: ['--iface=nope0'], names: ['--iface', 'nope0'] },
  { what: 'public address that is none', flags: ['--public-ip=300.1.1.1'], names: ['--public-ip', '300.1.1.1'] },
  { what: 'unknown flag', flags: ['--frobnicate'], names: ['--frobnicate'] },
  {
    what: 'number out of range',
    flags: ['--subnet-lease-renew-margin=2000'],
    names: ['--subnet-lease-renew-margin', '2000'],
  },
  { what: 'missing certificate', flags: ['--etcd-cafile=/nope/ca.pem'], names: ['--etcd-cafile', '/nope/ca.pem'] },
  {
    what: 'certificate that is a directory',
    flags: [`--etcd-certfile=${SECRETS}`, '--etcd-keyfile=/nope/key.pem'],
    names: ['--etcd-certfile', SECRETS],
  },
];

t.test('bad input is refused at start, named, and nothing has changed', async (t) => {
  const cluster: Cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  const node = cluster.nodes[0] as Node;
  await node.must('mkdir', [SECRETS]);
  const before = await hostState(node);
  for (const { what, config = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', flags = [], names } of REFUSALS) {
    await cluster.etcdctl('put', `${PREFIX}/config`, config);
    const { code, stderr } = await node.run(FLANNELD, [`--etcd-endpoints=${ETCD}`, ...flags], { timeoutMs: 60_000 });
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.includes('"level":30'));
    t.ok(code > 0, `${what}: exit code ${code}`);
    t.equal(lines.length, 1, `${what}: one line: ${stderr.trim()}`);
    for (const name of names) t.ok(stderr.includes(name), `${what}: names ${name}`);
    t.notMatch(stderr, /\n\s+at /, `${what}: no stack trace`);
    t.equal(await hostState(node), before, `${what}: nothing changed`);
    t.equal(await cluster.etcdctl('get', '--prefix', `${PREFIX}/subnets`), '', `${what}: no lease taken`);
  }
});

t.test('refused without privileges, by the agent and by the plugin', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  const node = cluster.nodes[0] as Node;
  const before = await hostState(node);
  const powerless = (...command: string[]) =>
    node.run('setpriv', ['--bounding-set=-all', '--inh-caps=-all', ...command]);
  for (const flags of [[`--etcd-endpoints=${ETCD}`], ['--cni-only'], ['cleanup']]) {
    const { code, stderr } = await powerless(FLANNELD, ...flags);
    t.equal(code, 1, String(flags));
    t.match(stderr, /^flanneld: .*: EPERM \(run as root, .*\)\n$/, String(flags));
  }
  const add = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/',
    CNI_NETNS: '/proc/1/ns/net',
  };
  const environment = Object.entries(add).map(([name, value]) => `${name}=${value}`);
  const list = '{"cniVersion":"1.0.0","name":"n","type":"flannel","isGateway":true}';
  const plugin = ['sh', '-c', `echo '${list}' | ${process.cwd()}/build/bin/flannel`];
  const { code, stdout } = await powerless('env', ...environment, ...plugin);
  t.equal(code, 1);
  t.match(JSON.parse(stdout), { code: 100, msg: /: EPERM$/, details: /run as root/ });
  t.equal(await hostState(node), before, 'nothing changed');
});

t.test('etcd trouble is waited out', async (t) => {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  const node = cluster.nodes[0] as Node;
  const ready = async () =>
    (await node.run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:8471/readyz'])).stdout;
  const flags = ['--healthz-ip=127.0.0.1', '--healthz-port=8471'];

  cluster.etcdProcess.kill('SIGKILL');
  const agent = cluster.startAgent(node, flags);
  await until(
    'the line that names the endpoint',
    async () => cluster.agentLog(node).includes(ETCD.replace('http://', '')),
    15_000,
  );
  await until('readyz', async () => (await ready()) === '503');
  await new Promise((resolve) => setTimeout(resolve, 3000));
  t.equal(agent.exitCode, null, 'unreachable: still there');
  t.notMatch(cluster.agentLog(node), /\n\s+at /);

  await cluster.startEtcd();
  await until(
    'the line that says there is no configuration',
    async () => cluster.agentLog(node).includes(`${PREFIX}/config`),
    20_000,
  );
  t.equal(await ready(), '503');
  t.equal(agent.exitCode, null, 'no configuration: still there');

  await cluster.putConfig({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
  await until('subnet file', () => hasSubnet(node), 20_000);
  await until('readyz', async () => (await ready()) === '200');
  t.pass('ready once etcd answers and has a configuration');
  await stopAgent(agent);
});
