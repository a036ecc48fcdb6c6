// A disk without room: ADD fails, naming the errno, and leaves no empty file that would block an address.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseIpam, release, reserve } from '../../ipam/verbs.ts';

const OWNER = { containerId: 'dummy', ifname: 'eth0' };

t.test('ADD on a full disk, then DEL, then room again', async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ipam-full-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', dataDir]);
  t.teardown(() => {
    spawnSync('umount', [dataDir]);
    rmSync(dataDir, { recursive: true, force: true });
  });
  t.equal(mounted.status, 0);
  const config = parseIpam({
    network: 'mynet',
    cniVersion: '1.0.0',
    ipam: { dataDir, ranges: [[{ subnet: '10.1.2.0/24' }]] },
    cniArgs: new Map(),
  });
  const directory = join(dataDir, 'mynet');
  mkdirSync(directory);
  for (const blocks of [4, 3]) {
    // With all four pages taken our own file can't be written, with three of them last_reserved_ip can't.
    writeFileSync(join(dataDir, 'filler'), Buffer.alloc(blocks * 4096));
    t.throws(() => reserve(config, OWNER), { code: 'io', errno: 'ENOSPC' });
    t.strictSame(readdirSync(directory), []);
    t.strictSame(readdirSync(join(dataDir, '.flannel-tmp/mynet')), []);
    t.strictSame(release(config, OWNER), []);
  }
  rmSync(join(dataDir, 'filler'));
  t.equal(reserve(config, OWNER).ips[0]?.address, '10.1.2.2/24');
});
