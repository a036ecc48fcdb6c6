// 2d: the verbs of address management, and the files that are its state.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { atLeast } from '../../../cni-plugin/versions.ts';
import { refused, resultOf, silent } from '../expect.ts';
import { ALL, type Defect, OWN_CODES, REFERENCE, type Row } from '../table.ts';
import { add, added, allocated, CONTENT, del, filesOf, fill, ipamConfig, refusedAdd } from './addresses.ts';
import { STORE } from './attached.ts';

const ONE = { ranges: [[{ subnet: '10.1.2.0/24' }]] };
const TWO = { ranges: [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.3.0/24' }]] };
const LAST = /^last_reserved_ip\./;

const addresses = (files: Readonly<Record<string, string>>): string[] =>
  Object.keys(files).filter((name) => /^[0-9a-f.:]+$/.test(name));

const wholeLife: Row = {
  id: 'two range sets: addresses, routes, DNS, files; DEL',
  covers: [
    'host-local/add-addresses',
    'host-local/add-dns',
    'host-local/files',
    'host-local/last-reserved',
    'host-local/del-files',
    'host-local/silent-first-use',
    'types/0.2.0-route-gateways',
    'types/0.2.0-no-route-gateways',
  ],
  versions: ALL,
  async run(stage) {
    await stage.sh('echo "nameserver 192.0.2.3" > /run/resolv.conf');
    const routes = [
      { dst: '0.0.0.0/0' },
      { dst: '192.168.0.0/16', gw: '1.1.1.1' },
      { dst: '::/0' },
      { dst: '2001:db8:2::/64', gw: '2001:db8:3::1' },
    ];
    const ranges = [[{ subnet: '10.1.2.0/24' }, { subnet: '10.2.2.0/24' }], [{ subnet: '2001:db8:1::/64' }]];
    const config = ipamConfig(stage, { resolvConf: '/run/resolv.conf', ranges, routes });
    const answer = await add(stage, config);
    assert.equal(answer.stderr, '', 'nothing on standard error');
    const result = resultOf(stage, answer);
    assert.deepEqual(
      result.ips.map(({ address, gateway }) => [address, gateway]),
      [
        ['10.1.2.2/24', '10.1.2.1'],
        ['2001:db8:1::2/64', '2001:db8:1::1'],
      ],
    );
    assert.deepEqual(result.routes, routes);
    assert.deepEqual(result.interfaces, []);
    assert.deepEqual(result.dns, { nameservers: ['192.0.2.3'] });
    const { lock: _, ...files } = await filesOf(stage);
    assert.deepEqual(files, {
      '10.1.2.2': CONTENT('c1'),
      '2001:db8:1::2': CONTENT('c1'),
      'last_reserved_ip.0': '10.1.2.2',
      'last_reserved_ip.1': '2001:db8:1::2',
    });
    silent(await del(stage, config), 'DEL');
    assert.deepEqual(addresses(await filesOf(stage)), []);
  },
};

const twoInterfaces: Row = {
  id: 'two interfaces of one container',
  covers: ['host-local/two-interfaces'],
  versions: ALL,
  async run(stage) {
    const config = ipamConfig(stage, ONE);
    assert.deepEqual(await allocated(stage, config), ['10.1.2.2/24']);
    assert.deepEqual(await allocated(stage, config, { ifname: 'eth1' }), ['10.1.2.3/24']);
    silent(await del(stage, config), 'DEL');
    const { lock: _, ...files } = await filesOf(stage);
    assert.deepEqual(files, { '10.1.2.3': CONTENT('c1', 'eth1'), 'last_reserved_ip.0': '10.1.2.3' });
  },
};

const repeat: Row = {
  id: 'a second ADD of one attachment',
  covers: ['host-local/repeat'],
  versions: ALL,
  differs: `${OWN_CODES}; ours finds the attachment by its record before it looks at the addresses`,
  async run(stage) {
    const config = ipamConfig(stage, ONE);
    await added(stage, config);
    const msg = stage.target.ours
      ? /already has interface eth0|duplicate allocation is not allowed/
      : /10\.1\.2\.2 has been allocated to c1, duplicate allocation is not allowed/;
    await refusedAdd(stage, config, { ownCode: 104, msg });
    assert.deepEqual(await allocated(stage, config, { containerId: 'c2' }), ['10.1.2.3/24']);
    silent(await del(stage, config), 'DEL');
    assert.deepEqual(addresses(await filesOf(stage)), ['10.1.2.3']);
  },
};

const legacy: Row = {
  id: 'DEL of a reservation that holds only the container id',
  covers: ['host-local/legacy-file'],
  versions: ALL,
  async run(stage) {
    const config = ipamConfig(stage, ONE);
    await fill(stage, 'testnet', { '10.1.2.2': 'c1', '10.1.2.3': 'c2' });
    silent(await del(stage, config), 'DEL');
    assert.deepEqual(addresses(await filesOf(stage)), ['10.1.2.3']);
  },
};

const unknownId: Row = {
  id: 'DEL of an unknown id, with the directory and without',
  covers: ['host-local/unknown-id'],
  versions: ALL,
  async run(stage) {
    const config = ipamConfig(stage, { subnet: '10.1.2.0/24' });
    silent(await del(stage, config), 'DEL without the directory');
    await fill(stage, 'testnet', { '10.1.2.2': CONTENT('c2') });
    silent(await del(stage, config), 'DEL with it');
    assert.deepEqual(addresses(await filesOf(stage)), ['10.1.2.2']);
  },
};

const whitespace: Row = {
  id: 'white space around the content of a reservation',
  covers: ['host-local/whitespace'],
  versions: ALL,
  async run(stage) {
    const config = ipamConfig(stage, ONE);
    await fill(stage, 'testnet', { '10.1.2.2': '  c1\\r\\neth0 \\n' });
    silent(await del(stage, config), 'DEL');
    assert.deepEqual(addresses(await filesOf(stage)), []);
  },
};

const custom: Row = {
  id: 'addresses asked for by args.cni.ips',
  covers: ['host-local/custom-ip', 'host-local/custom-ips-families', 'ipam-config/args', 'ipam-config/args-prefix'],
  versions: ALL,
  async run(stage) {
    const ranges = [[{ subnet: '172.16.1.0/24' }, { subnet: '10.1.2.0/24' }], [{ subnet: '2001:db8:1::/48' }]];
    const asking = (...ips: string[]) => ipamConfig(stage, { ranges }, { args: { cni: { ips } } });
    const both = await allocated(stage, asking('10.1.2.88', '2001:db8:1::999'));
    assert.deepEqual(both, ['10.1.2.88/24', '2001:db8:1::999/48']);
    const one = await allocated(stage, asking('172.16.1.7/24'), { containerId: 'c2' });
    assert.equal(one[0], '172.16.1.7/24');
  },
};

const customRanges: Row = {
  id: 'addresses asked for of several ranges, and one that no range has left',
  covers: ['host-local/custom-ips-ranges', 'host-local/custom-ip-unused', 'ipam-config/too-many'],
  versions: ALL,
  differs: OWN_CODES,
  async run(stage) {
    const asking = (...ips: string[]) => ipamConfig(stage, TWO, { args: { cni: { ips } } });
    const right = asking('10.1.2.88', '10.1.3.77');
    if (!atLeast(stage.version, '0.3.0')) {
      const msg = new RegExp(`CNI version ${stage.version} does not support more than 1 address per family`);
      await refusedAdd(stage, right, { ownCode: 7, msg });
      return;
    }
    const msg = /failed to allocate all requested IPs: 10\.1\.2\./;
    const answer = await add(stage, asking('10.1.2.88', '10.1.2.77'));
    refused(stage, answer, { ownCode: 7, msg });
    assert.deepEqual(addresses(await filesOf(stage)), [], 'nothing is reserved');
    assert.deepEqual(await allocated(stage, right), ['10.1.2.88/24', '10.1.3.77/24']);
  },
};

const EMPTY_FILES: Defect = {
  releases: REFERENCE,
  what: 'an empty file blocks its address for ever',
  cites: 'cni.md 3, problem 3 (p#498)',
};

const emptyFile: Row = {
  id: 'an empty reservation file does not block its address for ever',
  covers: ['host-local/files', 'allocator/exhausted'],
  defects: [EMPTY_FILES],
  async run(stage) {
    await fill(stage, 'testnet', { '10.1.2.2': '', 'last_reserved_ip.0': '10.1.2.1' });
    assert.deepEqual(await allocated(stage, ipamConfig(stage, { subnet: '10.1.2.0/30' })), ['10.1.2.2/30']);
    assert.deepEqual(
      Object.keys(await filesOf(stage)).filter((name) => LAST.test(name)),
      ['last_reserved_ip.0'],
    );
  },
};

/** Milliseconds that the lock is held. */
const HELD = 2500;

const locked: Row = {
  id: "somebody holds host-local's lock",
  covers: ['lock/blocks'],
  differs: 'ours reserves by link(2) without the lock: no process waits for another one (cni.md 3, problem 4, p#561)',
  async run(stage) {
    await fill(stage, 'testnet', { lock: '' });
    const holder = stage.machine.start('flock', [`${STORE}/testnet/lock`, 'sh', '-c', `echo; sleep ${HELD / 1000}`]);
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    const started = performance.now();
    assert.deepEqual(await allocated(stage, ipamConfig(stage, ONE)), ['10.1.2.2/24']);
    const waited = performance.now() - started > HELD - 200;
    assert.equal(waited, !stage.target.ours, 'waits until it is released');
  },
};

export const HOST_LOCAL_ROWS: readonly Row[] = [
  wholeLife,
  twoInterfaces,
  repeat,
  legacy,
  unknownId,
  whitespace,
  custom,
  customRanges,
  emptyFile,
  locked,
];
