// The file subnet manager: the suite of every manager, and what is a file's own.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import t, { type Test } from 'tap';
import { parseNetworkConfig } from '../../../flanneld/network-config.ts';
import { openFileStore } from '../../../flanneld/subnet/file.ts';
import { formatLeaseFile, parseLeaseFile } from '../../../flanneld/subnet/lease-file.ts';
import type { SubnetManager } from '../../../flanneld/subnet/manager.ts';
import { prefix } from '../../../model/ip.ts';
import { type Lease, leaseKey } from '../../../model/lease.ts';
import { attributesOf, requestOf, subnetManagerSuite } from '../../compliance/subnet-manager.ts';
import { type Follower, follow } from '../../support/snapshots.ts';

const ALWAYS = new AbortController().signal;
const NETWORK = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
let stores = 0;

subnetManagerSuite(t, async () => {
  const directory = t.testdir({ [`store${++stores}`]: {} });
  const files = { networkConfig: `${directory}/store${stores}/net`, leases: `${directory}/store${stores}/leases` };
  return {
    putConfig: async (text) => writeFileSync(files.networkConfig, text),
    async remove(lease) {
      const kept = parseLeaseFile(readFileSync(files.leases, 'utf8'), 'leases').filter(
        ({ subnet }) => leaseKey(subnet) !== leaseKey(lease.subnet),
      );
      writeFileSync(`${files.leases}.new`, formatLeaseFile(kept));
      renameSync(`${files.leases}.new`, files.leases);
    },
    open: (nodeId) => openFileStore({ files, nodeId }),
    close: async () => undefined,
  };
});

interface Rig {
  readonly path: string;
  open(nodeId: string): SubnetManager;
  following(manager: SubnetManager): Follower;
  text(): string;
}

function rig(t: Test, name = 'shared/leases.json'): Rig {
  const directory = t.testdir();
  const path = `${directory}/${name}`;
  const files = { networkConfig: `${directory}/net-conf.json`, leases: path };
  return {
    path,
    open: (nodeId) => openFileStore({ files, nodeId }),
    following(manager) {
      const follower = follow(manager);
      t.teardown(() => follower.stop());
      return follower;
    },
    text: () => readFileSync(path, 'utf8'),
  };
}

const PEER = '{"Subnet":"10.5.9.0/24","PublicIP":"192.0.2.9","BackendType":"vxlan","BackendData":{"VNI":1}}';

t.test('a machine by itself', async (t) => {
  const { open, text } = rig(t);
  const own = await open('a').acquire(requestOf(1, NETWORK), ALWAYS);
  t.strictSame(own.subnet, { 4: '10.5.1.0/24' }, 'has the first subnet, which SubnetMin says');
  t.equal(
    text(),
    `[
  {"Subnet":"10.5.1.0/24","PublicIP":"192.0.2.1","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1},"NodeID":"a"}
]
`,
  );
});

t.test('entries that a person has written', async (t) => {
  const { path, open, text } = rig(t, 'leases.json');
  writeFileSync(
    path,
    `[${PEER}, {"Subnet":"10.5.1.0/24","PublicIP":"192.0.2.1"}, {"Subnet":"10.5.77.0/24","PublicIP":"192.0.2.2"}]`,
  );
  t.strictSame(
    (await open('b').acquire(requestOf(2, NETWORK), ALWAYS)).subnet,
    { 4: '10.5.77.0/24' },
    'ours by address',
  );
  t.strictSame(
    (await open('c').acquire(requestOf(3, NETWORK), ALWAYS)).subnet,
    { 4: '10.5.2.0/24' },
    'kept for others',
  );
  t.match(text(), /"Subnet":"10\.5\.77\.0\/24".*"NodeID":"b"/);
  t.equal(text().split('\n').length, 4 + 3, 'nothing is lost');
});

t.test('what makes no sense changes nothing and is not overwritten', async (t) => {
  const { path, open, following } = rig(t, 'leases.json');
  writeFileSync(path, `[${PEER}]`);
  const manager = open('a');
  const own = await manager.acquire(requestOf(1, NETWORK), ALWAYS);
  const watch = following(manager);
  const before = await watch.until('both', ({ peers, own }) => peers.length === 1 && own !== undefined);
  const count = watch.count();
  const damages: readonly (readonly [string, RegExp])[] = [
    ['', /leases\.json: not JSON/],
    ['[{"Subnet":', /not JSON/],
    ['{"Subnet":"10.5.1.0/24"}', /expected a list of leases/],
    ['[7]', /\[0\]: expected an object, got 7/],
    [`[${PEER}, {"PublicIP":"192.0.2.7"}]`, /\[1\]\.Subnet: expected a network, got nothing/],
    ['[{"Subnet":"10.5.1.7/24"}]', /\[0\]\.Subnet: expected an IPv4 network, got "10\.5\.1\.7\/24"/],
    ['[{"Subnet":"fc00::/64"}]', /\[0\]\.Subnet: expected an IPv4 network/],
    ['[{"Subnet":"10.5.1.0/24","PublicIP":"nowhere"}]', /\[0\]: PublicIP/],
    [`[${PEER},${PEER}]`, /\[1\]: there is another entry for 10\.5\.9\.0-24/],
  ];
  for (const [text, expected] of damages) {
    const told = watch.troubles.length;
    writeFileSync(path, text);
    for (let left = 100; left > 0 && watch.troubles.length === told; left--)
      await new Promise((done) => setTimeout(done, 20));
    t.match(watch.troubles.at(-1), { code: 'decoding', message: expected });
    await t.rejects(manager.publish(own, ALWAYS), { code: 'decoding' });
    t.equal(readFileSync(path, 'utf8'), text, 'not overwritten');
  }
  rmSync(path);
  for (let left = 100; left > 0 && !String(watch.troubles.at(-1)).includes('gone'); left--)
    await new Promise((done) => setTimeout(done, 20));
  t.match(watch.troubles.at(-1), { code: 'file-unreadable', message: /leases\.json is gone; the leases it had hold/ });
  t.equal(watch.count(), count, 'no snapshot of any of it');
  writeFileSync(path, formatLeaseFile([own, ...before.peers]));
  await watch.until('a snapshot again', () => watch.count() > count);
  t.strictSame(watch.last(), before);
  t.equal(watch.last()?.peers[0], before.peers[0], 'the same objects: nothing is new');
});

t.test('a network configuration that is no file', async (t) => {
  const config = `${t.testdir({ directory: {} })}/directory`;
  const read = (networkConfig: string) =>
    openFileStore({ files: { networkConfig, leases: '' }, nodeId: 'a' }).networkConfig(ALWAYS);
  await t.rejects(read(config), { code: 'no-network-config', message: /directory: no file of at most \d+ bytes$/ });
  await t.rejects(read(`${config}/none`), { code: 'no-network-config', message: /none: there is no such file$/ });
});

t.test('a directory, a link, a lock', async (t) => {
  const { path, open } = rig(t, 'leases.json');
  mkdirSync(path);
  await t.rejects(open('a').acquire(requestOf(1, NETWORK), ALWAYS), { code: 'file-unreadable' });
  rmSync(path, { recursive: true });
  writeFileSync(`${path}.real`, '[]');
  symlinkSync(`${path}.real`, path);
  await open('a').acquire(requestOf(1, NETWORK), ALWAYS);
  t.match(readFileSync(`${path}.real`, 'utf8'), /"NodeID":"a"/, 'what the link leads to is replaced');
  t.ok(existsSync(`${path}.real.lock`));
  chmodSync(`${path}.real`, 0o644);
});

t.test('a clone of the machine', async (t) => {
  const { open, text } = rig(t);
  const [first, clone] = [open('a'), open('a')];
  const own = await first.acquire(requestOf(1, NETWORK), ALWAYS);
  await clone.acquire(requestOf(2, NETWORK), ALWAYS);
  const file = text();
  await t.rejects(first.publish(own, ALWAYS), {
    code: 'lease-lost',
    message: /another agent with our node id, at 192\.0\.2\.2/,
  });
  t.equal(text(), file, 'they take no turns');
});

t.test('the text of a file', async (t) => {
  const leases: Lease[] = [
    { ...attributesOf(1), nodeId: 'a', subnet: { 4: prefix('10.5.1.0/24'), 6: prefix('fc00:0:0:1::/64') } },
    { publicIp: {}, backendType: '', backendData: {}, subnet: { 6: prefix('fc00:0:0:2::/64') } },
  ];
  t.strictSame(parseLeaseFile(formatLeaseFile(leases), 'x'), leases);
  t.strictSame(parseLeaseFile(formatLeaseFile([]), 'x'), []);
});
