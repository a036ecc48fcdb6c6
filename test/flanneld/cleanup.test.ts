// `flanneld cleanup` and `flanneld --dry-run` on the fake host.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { type Attachment, attachmentsIn } from '../../cni-plugin/attachments.ts';
import { masqueradeTable, establish } from '../../cni-plugin/masquerade.ts';
import { encode } from '../../cni-plugin/wire.ts';
import { cleanup } from '../../flanneld/cleanup.ts';
import type { CniPlaces } from '../../flanneld/cni/cleanup.ts';
import { recordDirectories } from '../../flanneld/cni/records.ts';
import { createRepair } from '../../flanneld/cni/repair.ts';
import { addToSpool } from '../../flanneld/cni/spool.ts';
import { parseArguments } from '../../flanneld/config.ts';
import { dryRun } from '../../flanneld/dry-run.ts';
import type { Programs } from '../../flanneld/firewall/programs.ts';
import { healthServer } from '../../flanneld/health.ts';
import { rulesTable } from '../../flanneld/rules/table.ts';
import { listenOnSocket, statusSocketPath } from '../../flanneld/status-socket.ts';
import { grantsPath, openGrants } from '../../flanneld/subnet/grants.ts';
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

/** What the CNI plugin has on the node, in a directory beside the subnet file. */
function cniPlaces({ kernel, subnetFile }: Rig): CniPlaces {
  const directory = dirname(subnetFile);
  const [records, spool] = [recordDirectories(`${directory}/flannel`), `${directory}/spool`];
  const shared = { kernel, bootId: 'boot1', now: () => 1000, lockTimeoutMs: 100, removeLink: async () => true };
  const repair = createRepair({ shared, records, spool, log: testLog() });
  return { kernel, socket: `${directory}/cni.sock`, records, spool, repair };
}

async function cleaned(node: Rig, dryRun = false): Promise<string[]> {
  const { kernel, subnetFile } = node;
  const lines: string[] = [];
  const print = (line: string) => void lines.push(line);
  await cleanup({ kernel, subnetFile, dryRun, programs: NO_PROGRAMS, print, cni: cniPlaces(node) });
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
  openGrants(grantsPath(node.subnetFile), 'boot1').add('7');
  const announced = await cleaned(node, true);
  t.equal(dumpSorted(node.kernel), before, 'a dry run changes nothing');
  t.ok(existsSync(node.subnetFile));
  const done = await cleaned(node);
  t.same(done, announced);
  t.same(done, [
    'nft delete table inet flannel',
    'ip link delete flannel.1',
    `rm -f ${grantsPath(node.subnetFile)}`,
    `rm -f ${node.subnetFile}`,
  ]);
  t.equal(dumpSorted(node.kernel), fresh);
  t.notOk(existsSync(grantsPath(node.subnetFile)));
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
    { masquerade: true, masqueradeFullyRandom: true },
  );
  const added = diffTable(kernel.readTable('inet', 'flannel'), others, () => false);
  if (added !== undefined) kernel.commit(added);
  const lines = await cleaned(node);
  t.match(lines, [
    /flush chain inet flannel masquerade-10\.244/,
    /delete chain/,
    'ip route delete 10.244.2.0/24 via 192.168.50.2 dev eth0 proto 251',
    /rm -f/,
  ]);
  const left = dumpSorted(kernel);
  t.match(left, /10\.99\.2\.0\/24/);
  t.match(left, /10\.244\.50\.0\/24/, "a person's own route stays");
  t.match(left, /chain masquerade-10\.99\.0\.0-16/);
});

/** What pods with ipMasq leave in the agent's table. */
function masqueraded({ kernel }: Rig): void {
  kernel.commit(establish(kernel.readTable('inet', 'flannel'), masqueradeTable([prefix('10.244.1.2/24')], [])));
}

const RECORD: Attachment = {
  plugin: 'flannel',
  bootId: 'boot1',
  created: 500,
  network: 'cbr0',
  containerId: 'pod1',
  ifname: 'eth0',
  netns: { path: '/run/netns/pod1' },
  addresses: [],
  routes: [],
};

t.test('what the CNI plugin left', async (t) => {
  const fresh = dumpSorted(rig(t).kernel);
  const node = await usedNode(t);
  masqueraded(node);
  const directory = dirname(node.subnetFile);
  const beside = ['cni.sock.lock', 'cni.sock.away', 'cni.sock.alone'];
  for (const name of beside) writeFileSync(join(directory, name), '');
  const files = attachmentsIn(join(directory, 'flannel'), 100);
  files.write(RECORD);
  const kept = (containerId: string) => {
    const environment = { CNI_COMMAND: 'DEL', CNI_CONTAINERID: containerId, CNI_IFNAME: 'eth0', CNI_PATH: '/x' };
    const input = JSON.stringify({ name: 'cbr0', dataDir: join(directory, 'flannel'), ipam: { dataDir: '/nowhere' } });
    const ownNetns = node.kernel.host.id as '4:1';
    return {
      kind: 'request',
      name: 'flannel',
      environment,
      input,
      ownNetns,
      spooled: { bootId: 'boot1', at: 900 },
    } as const;
  };
  addToSpool(join(directory, 'spool'), kept('pod1'), 900);
  t.match(await cleaned(node, true), [/^# 1 deletions that clients kept would be done first/, ...Array(3).fill(/./)]);
  t.ok(files.read(RECORD), 'a dry run changes nothing');

  await cleaned(node);
  t.strictSame(readdirSync(directory, { recursive: true }).sort(), ['flannel', 'flannel/cbr0']);
  t.equal(dumpSorted(node.kernel), fresh, 'and the table, with what the plugin had in it');
  t.match(await cleaned(node), [/nothing to clean up/]);
});

t.test('what attached pods need stays', async (t) => {
  const node = await usedNode(t);
  masqueraded(node);
  const directory = dirname(node.subnetFile);
  const files = attachmentsIn(join(directory, 'flannel'), 100);
  files.write(RECORD);
  writeFileSync(join(directory, 'cni.sock.lock'), '');
  const lines = await cleaned(node);
  t.equal(
    lines[0],
    '# 1 attachments of pods stay, with what they need, such as eth0 of pod1 in network cbr0: delete the pods first',
  );
  t.ok(files.read(RECORD));
  t.ok(existsSync(join(directory, 'cni.sock.lock')));
  t.match(dumpSorted(node.kernel), /chain cni-masquerade/);
  t.notMatch(dumpSorted(node.kernel), /masquerade-10/, 'the agent’s own chains go');
  files.remove(RECORD);
  await cleaned(node);
  t.equal(dumpSorted(node.kernel), dumpSorted(rig(t).kernel));
});

t.test('a dry run tells what has died from what stays', async (t) => {
  const node = await usedNode(t);
  masqueraded(node);
  const files = attachmentsIn(join(dirname(node.subnetFile), 'flannel'), 100);
  files.write({ ...RECORD, containerId: 'rebooted', bootId: 'boot0' });
  files.write({ ...RECORD, containerId: 'unfinished', unfinished: true });
  const foreign = { role: 'interface', plugin: 'macvlan', input: '{}', args: '' } as const;
  const dead = [
    '# would be taken away first: eth0 of rebooted in network cbr0: it was made before the last boot',
    '# would be taken away first: eth0 of unfinished in network cbr0: its ADD was broken off',
  ];
  files.write({ ...RECORD, containerId: 'theirs', bootId: 'boot0', foreign });
  t.match(await cleaned(node, true), [...dead, /^# 1 attachments of pods stay, .* eth0 of theirs /]);
  files.remove({ ...RECORD, containerId: 'theirs' });
  const announced = await cleaned(node, true);
  t.strictSame(announced.slice(0, 3), [...dead, 'nft delete table inet flannel']);
  t.equal(files.list('cbr0').length, 2, 'a dry run changes nothing');
  t.strictSame(await cleaned(node), announced.slice(2), 'and the real run does what it said');
  t.strictSame(files.list('cbr0'), []);
});

t.test('served by another', async (t) => {
  const node = await usedNode(t);
  masqueraded(node);
  const directory = dirname(node.subnetFile);
  const server = createServer();
  await listenOnSocket(server, join(directory, 'cni.sock'));
  t.match((await cleaned(node))[0], /^# another agent serves CNI clients on .*cni\.sock: what it needs stays$/);
  t.match(dumpSorted(node.kernel), /chain cni-masquerade/);
  server.close();
  mkdirSync(join(directory, 'spool'), { mode: 0o700 });
  const unknown = { kind: 'request', name: 'unknown', environment: { CNI_COMMAND: 'DEL' }, input: '{}' } as const;
  writeFileSync(join(directory, 'spool/1'), encode({ ...unknown, spooled: { bootId: 'boot1', at: 1000 } }));
  t.match(await cleaned(node), [/^# 1 deletions in .*spool fail, and stay$/, /^nft delete table inet flannel$/]);
  t.strictSame(readdirSync(join(directory, 'spool')), ['1']);
});

t.test('not under a running agent', async (t) => {
  const node = await usedNode(t);
  const server = healthServer({
    unreadiness: () => undefined,
    remarks: () => [],
    examine: async () => undefined,
    status: () => ({}) as never,
  });
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
