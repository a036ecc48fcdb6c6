// `flanneld cleanup` and `flanneld --dry-run` on the fake host.

import { existsSync } from 'node:fs';
import t, { type Test } from 'tap';
import { cleanup } from '../../flanneld/cleanup.ts';
import { parseArguments } from '../../flanneld/config.ts';
import { dryRun } from '../../flanneld/dry-run.ts';
import type { Programs } from '../../flanneld/firewall/programs.ts';
import { healthServer } from '../../flanneld/health.ts';
import { rulesTable } from '../../flanneld/rules/table.ts';
import { listenOnSocket, statusSocketPath } from '../../flanneld/status-socket.ts';
import { prefix } from '../../model/ip.ts';
import { diffTable } from '../../model/ruleset.ts';
import { type Rig, rig } from './fixtures/agent.ts';
import { dumpSorted, testClock, testLog } from './fixtures/host.ts';
import { NODE_ID, OTHER_NETWORK, peerLease } from './fixtures/world.ts';

const NO_PROGRAMS: Programs = {
  find: () => undefined,
  run: async () => ({ status: 127, output: '', errors: '' }),
  legacyTables: () => [],
};

async function cleaned({ kernel, subnetFile }: Rig, dryRun = false): Promise<string[]> {
  const lines: string[] = [];
  await cleanup({ kernel, subnetFile, dryRun, programs: NO_PROGRAMS, print: (line) => void lines.push(line) });
  return lines;
}

/** A node whose agent ran and has stopped. */
async function usedNode(t: Test): Promise<Rig> {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const running = node.start();
  await node.pass(0);
  await running.stop();
  return node;
}

t.test('everything of the network goes', async (t) => {
  const fresh = dumpSorted(rig(t).kernel);
  const node = await usedNode(t);
  const before = dumpSorted(node.kernel);
  const announced = await cleaned(node, true);
  t.equal(dumpSorted(node.kernel), before, 'a dry run changes nothing');
  t.ok(existsSync(node.subnetFile));
  const done = await cleaned(node);
  t.same(done, announced);
  t.same(done, [
    'nft delete table inet flannel',
    'ip link delete flannel.1',
    `rm -f ${node.subnetFile} ${statusSocketPath(node.subnetFile)}`,
  ]);
  t.equal(dumpSorted(node.kernel), fresh);
  t.notOk(existsSync(node.subnetFile));
  t.match(await cleaned(node), [/nothing to clean up/]);
});

t.test('routes of host-gw, and nothing of another network', async (t) => {
  const node = rig(t, { Network: '10.244.0.0/16', Backend: { Type: 'host-gw' } });
  node.store.put(peerLease([4], 2, { type: 'host-gw' }));
  const running = node.start();
  await node.pass(0);
  await running.stop();
  const { kernel } = node;
  kernel.apply(kernel.host, [
    {
      verb: 'add',
      item: { type: 'route', value: { destination: prefix('10.99.2.0/24'), device: 'eth0', protocol: 251 } },
    },
    {
      verb: 'add',
      item: { type: 'route', value: { destination: prefix('10.244.50.0/24'), device: 'eth0', protocol: 4 } },
    },
  ]);
  const others = rulesTable(
    { 4: OTHER_NETWORK },
    { 4: prefix('10.99.1.0/24') },
    { masquerade: true, masqueradeFullyRandom: true, forwardRules: true },
  );
  const added = diffTable(kernel.readTable('inet', 'flannel'), others, () => false);
  if (added !== undefined) kernel.commit(added);
  const lines = await cleaned(node);
  t.match(lines, [
    /flush chain inet flannel masquerade-10\.244/,
    /flush/,
    /delete chain/,
    /delete chain/,
    'ip route delete 10.244.2.0/24 via 192.168.50.2 dev eth0 proto 251',
    /rm -f/,
  ]);
  const left = dumpSorted(kernel);
  t.match(left, /10\.99\.2\.0\/24/);
  t.match(left, /10\.244\.50\.0\/24/, "a person's own route stays");
  t.match(left, /chain masquerade-10\.99\.0\.0-16/);
});

t.test('not under a running agent', async (t) => {
  const node = await usedNode(t);
  const server = healthServer({ unreadiness: () => undefined, remarks: () => [], status: () => ({}) as never });
  await listenOnSocket(server, statusSocketPath(node.subnetFile));
  t.teardown(() => server.close());
  await t.rejects(cleaned(node), { code: 'busy', message: /flanneld is running/ });
});

t.test('what cannot be removed is named, and the file stays', async (t) => {
  const node = await usedNode(t);
  node.kernel.failNext(/ip link delete flannel\.1/, 'EPERM');
  await t.rejects(cleaned(node), { code: 'kernel', message: /flannel\.1.*EPERM/ });
  t.ok(existsSync(node.subnetFile));
  await cleaned(node);
  t.notOk(existsSync(node.subnetFile));
});

t.test('--dry-run says what a start does', async (t) => {
  const node = rig(t);
  node.store.put(peerLease([4], 2));
  const invocation = parseArguments([`--subnet-file=${node.subnetFile}`, '--ip-masq', '--dry-run'], {});
  if (invocation.command !== 'run') throw new Error('not an agent');
  const deps = {
    kernel: node.kernel,
    config: invocation.config,
    log: testLog(),
    clock: testClock(),
    openManager: node.store.open,
    identity: { isKept: () => false, keep: () => NODE_ID },
  };
  const before = dumpSorted(node.kernel);
  const lines = await dryRun(deps, NODE_ID, new AbortController().signal);
  t.equal(lines[0], '# lease 10.244.1.0-24');
  t.match(
    lines.join('\n'),
    /ip link add flannel\.1 .*ip route replace 10\.244\.2\.0\/24 .*# {3}FLANNEL_SUBNET=10\.244\.1\.1\/24/s,
  );
  t.equal(dumpSorted(node.kernel), before);
  t.equal(node.store.leases.size, 1);
  t.notOk(existsSync(node.subnetFile));
  node.start();
  await node.pass(0);
  const after = await dryRun(deps, NODE_ID, new AbortController().signal);
  t.same(
    after.filter((line) => !line.startsWith('#')),
    [],
    'on a node where the agent runs there is nothing to do',
  );
});
