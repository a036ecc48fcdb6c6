// What may happen to a node's own lease in a real etcd: deleted, changed, expired, taken by another, made a reservation. The
// agent goes on in every case, and so does its data path (flannel.md, defects F, G and I; report 6).

import t, { type Test } from 'tap';
import {
  agentStatus,
  type Cluster,
  hasPeers,
  type Node,
  PREFIX,
  startCluster,
  stopAgent,
  until,
} from '../../examples/cluster/cluster.ts';
import { hostState, stateDifference } from '../support/host-state.ts';

const NETWORK = { Network: '10.244.0.0/16', SubnetMax: '10.244.99.0', Backend: { Type: 'vxlan' } };
const OTHERS = 20;

const value = (host: number): string =>
  JSON.stringify({
    PublicIP: `192.168.50.${host}`,
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: `02:00:00:00:00:${host.toString(16)}` },
  });

interface Own {
  readonly key: string;
  readonly value: string;
  /** Of the etcd lease; "0" without. */
  readonly grant: string;
  readonly version: number;
}

/** The entry under a key. */
async function entryOf({ etcdctl }: Cluster, key: string): Promise<Own | undefined> {
  // The numbers of leases are larger than JSON's.
  const text = (await etcdctl('get', key, '--write-out=json')).replace(/"lease":(\d+)/g, '"lease":"$1"');
  const kv = JSON.parse(text).kvs?.[0];
  if (kv === undefined) return undefined;
  const grant = BigInt(kv.lease ?? 0).toString(16);
  return { key, value: Buffer.from(kv.value, 'base64').toString(), grant, version: kv.version };
}

async function start(t: Test): Promise<{ cluster: Cluster; node: Node }> {
  const cluster = await startCluster({ nodes: 1 });
  t.teardown(() => cluster.down());
  await cluster.putConfig(NETWORK);
  for (let other = 0; other < OTHERS; other++)
    await cluster.etcdctl('put', `${PREFIX}/subnets/10.244.${200 + other}.0-24`, value(100 + other));
  return { cluster, node: cluster.nodes[0] as Node };
}

async function ownKey(node: Node): Promise<string> {
  const subnet = (await agentStatus(node))?.families[0]?.subnet as string;
  return `${PREFIX}/subnets/${subnet.replace('/', '-')}`;
}

/** Calls of a method that etcd has answered so far. */
async function calls({ etcd }: Cluster, method: string): Promise<number> {
  const metrics = await etcd.must('curl', ['--silent', 'http://127.0.0.1:2381/metrics']);
  const lines = metrics.split('\n').filter((line) => line.includes(`grpc_method="${method}"`));
  return lines
    .filter((line) => line.startsWith('grpc_server_handled_total'))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

t.test('defect F, report 6: what happens to our own lease', async (t) => {
  const { cluster, node } = await start(t);
  const agent = cluster.startAgent(node);
  await until('its peers', () => hasPeers(node, OTHERS));
  const key = await ownKey(node);
  const own = (await entryOf(cluster, key)) as Own;
  const state = await hostState(node);
  const comesBack = async (what: string) => {
    const back = async () => (await entryOf(cluster, key))?.value === own.value && (await hasPeers(node, OTHERS));
    await until(what, back, 15_000).catch(() => undefined);
    t.equal((await entryOf(cluster, key))?.value, own.value, `${what}: it is back`);
    t.strictSame(stateDifference(await hostState(node), state), [], `${what}: the data path is as before`);
  };
  await cluster.etcdctl('del', key);
  await comesBack('deleted');
  const grant = (await entryOf(cluster, key))?.grant as string;
  await cluster.etcdctl('lease', 'revoke', grant);
  await comesBack('expired');
  await cluster.etcdctl('put', key, own.value.replace(/"VtepMAC":"[^"]+"/, '"VtepMAC":"02:ff:ff:ff:ff:ff"'));
  await comesBack('changed');

  await cluster.etcdctl('put', key, value(77));
  const reason = async () => (await agentStatus(node))?.reason;
  await until('not ready', async () => /is held by 192\.168\.50\.77/.test((await reason()) ?? '')).catch(
    () => undefined,
  );
  t.match(await reason(), /is held by 192\.168\.50\.77/, 'taken by another node: it says so');
  t.strictSame(stateDifference(await hostState(node), state), [], 'taken by another node: the data path stays');
  t.equal((await entryOf(cluster, key))?.value, value(77), 'and the other keeps it');
  await cluster.etcdctl('del', key);
  await comesBack('given back');

  t.equal(agent.exitCode, null, 'the agent runs on');
  await stopAgent(agent);
  t.strictSame(stateDifference(await hostState(node), state), [], 'SIGTERM: exit code 0, nothing changed');
});

t.test('defect G, report 25: a reservation stays one', async (t) => {
  const { cluster, node } = await start(t);
  const key = `${PREFIX}/subnets/10.244.55.0-24`;
  await cluster.etcdctl('put', key, '{"PublicIP":"192.168.50.1"}');
  for (const round of ['first start', 'restart']) {
    const agent = cluster.startAgent(node);
    await until('its peers', () => hasPeers(node, OTHERS));
    t.equal(await ownKey(node), key, `${round}: it is honoured`);
    t.match(await entryOf(cluster, key), { grant: '0', value: /VtepMAC/ }, `${round}: it expires never`);
    await stopAgent(agent);
  }
});

t.test('defect I: a start asks for no single lease', async (t) => {
  const { cluster, node } = await start(t);
  const before = await calls(cluster, 'Range');
  cluster.startAgent(node);
  await until('its peers', () => hasPeers(node, OTHERS));
  t.equal(await calls(cluster, 'LeaseTimeToLive'), 0);
  const ranges = (await calls(cluster, 'Range')) - before;
  t.ok(ranges > 0 && ranges < 12, `${ranges} reads for ${OTHERS} leases`);
});
