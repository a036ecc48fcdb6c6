// 2d: which address is next, as files there are and the address that is given. Every case has a network of its own.

import assert from 'node:assert/strict';
import type { CaseId } from '../catalogue.ts';
import type { Stage } from '../stage.ts';
import { OWN_CODES, type Row } from '../table.ts';
import { allocated, del, fill, ipamConfig, refusedAdd } from './addresses.ts';

/** What is there, and what is next; no `next`: none is left. */
interface Turn {
  readonly subnets: readonly string[];
  readonly taken?: readonly string[];
  readonly last?: string;
  readonly next?: string;
}

const ROUND_ROBIN: readonly Turn[] = [
  { subnets: ['10.0.0.0/29'], next: '10.0.0.2' },
  { subnets: ['2001:db8:1::/64'], next: '2001:db8:1::2' },
  { subnets: ['10.0.0.0/30'], next: '10.0.0.2' },
  { subnets: ['10.0.0.0/29'], taken: ['10.0.0.2'], next: '10.0.0.3' },
  { subnets: ['10.0.0.0/29'], last: '10.0.0.5', next: '10.0.0.6' },
  { subnets: ['10.0.0.0/29'], taken: ['10.0.0.4', '10.0.0.5'], last: '10.0.0.3', next: '10.0.0.6' },
  { subnets: ['10.0.0.0/29'], taken: ['10.0.0.6'], last: '10.0.0.5', next: '10.0.0.2' },
  { subnets: ['10.0.0.0/29'], taken: ['10.0.0.2'], last: '10.0.0.128', next: '10.0.0.3' },
  {
    subnets: ['10.0.0.0/29'],
    taken: ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6'],
    last: '10.0.0.3',
    next: '10.0.0.3',
  },
  { subnets: ['10.0.0.0/30', '10.0.1.0/30'], next: '10.0.0.2' },
  { subnets: ['10.0.0.0/30', '10.0.1.0/30'], last: '10.0.0.2', next: '10.0.1.2' },
  { subnets: ['10.0.0.0/30', '10.0.1.0/30', '10.0.2.0/30'], last: '10.0.2.2', next: '10.0.0.2' },
];

const FULL: readonly Turn[] = [
  { subnets: ['10.0.0.0/30'], taken: ['10.0.0.2'] },
  { subnets: ['10.0.0.0/29'], taken: ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6'] },
  { subnets: ['10.0.0.0/30', '10.0.1.0/30'], taken: ['10.0.0.2', '10.0.1.2'] },
];

async function take({ subnets, taken = [], last, next }: Turn, stage: Stage, name: string): Promise<void> {
  await fill(stage, name, {
    ...Object.fromEntries(taken.map((ip) => [ip, 'id\\r\\neth0'])),
    ...(last !== undefined && { 'last_reserved_ip.0': last }),
  });
  const config = ipamConfig(stage, { ranges: [subnets.map((subnet) => ({ subnet }))] }, { name });
  if (next === undefined) {
    await refusedAdd(stage, config, { ownCode: 102, msg: /no IP addresses available in range set: 10\.0\.0\.1-/ });
  } else {
    const [given] = await allocated(stage, config);
    assert.equal(given?.split('/')[0], next, `${name}: ${subnets} without ${taken} after ${last}`);
  }
}

const turnsRow = (id: string, covers: readonly CaseId[], turns: readonly Turn[]): Row => ({
  id,
  covers,
  differs: OWN_CODES,
  async run(stage) {
    for (const [index, turn] of turns.entries()) await take(turn, stage, `case${index}`);
  },
});

/** Goes through a /29 until it is full; `last` is where it starts. */
async function goThrough(stage: Stage, last: string | undefined, expected: readonly number[]): Promise<void> {
  if (last !== undefined) await fill(stage, 'testnet', { 'last_reserved_ip.0': last });
  const config = ipamConfig(stage, { ranges: [[{ subnet: '192.168.1.0/29' }]] });
  for (const end of expected) {
    const given = await allocated(stage, config, { containerId: `c${end}` });
    assert.deepEqual(given, [`192.168.1.${end}/29`]);
  }
  const msg = /no IP addresses available in range set: 192\.168\.1\.1-192\.168\.1\.6/;
  await refusedAdd(stage, config, { ownCode: 102, msg }, { containerId: 'late' });
}

const throughRow = (id: string, covers: readonly CaseId[], last: string | undefined, expected: number[]): Row => ({
  id: `through a range ${id}`,
  covers,
  differs: OWN_CODES,
  run: (stage) => goThrough(stage, last, expected),
});

const notTheLast: Row = {
  id: 'an address that was released is not the next',
  covers: ['allocator/not-the-last'],
  async run(stage) {
    const config = ipamConfig(stage, { ranges: [[{ subnet: '192.168.1.0/29' }]] });
    assert.deepEqual(await allocated(stage, config), ['192.168.1.2/29']);
    await del(stage, config);
    assert.deepEqual(await allocated(stage, config), ['192.168.1.3/29']);
  },
};

const requested: Row = {
  id: 'an address that is asked for: given, taken, outside, the gateway',
  covers: [
    'allocator/requested',
    'allocator/requested-taken',
    'allocator/requested-after',
    'allocator/requested-before',
    'allocator/no-gateway',
  ],
  differs: OWN_CODES,
  async run(stage) {
    const asking = (ip: string, bounds: object = {}) =>
      ipamConfig(stage, { ranges: [[{ subnet: '192.168.1.0/29', ...bounds }]] }, { args: { cni: { ips: [ip] } } });
    assert.deepEqual(await allocated(stage, asking('192.168.1.5')), ['192.168.1.5/29']);
    const other = { containerId: 'c2' };
    const msg = /requested IP address 192\.168\.1\.5 is not available in range set 192\.168\.1\.1-192\.168\.1\.6/;
    await refusedAdd(stage, asking('192.168.1.5'), { ownCode: 103, msg }, other);
    const outside = /failed to allocate all requested IPs: 192\.168\.1\.\d/;
    await refusedAdd(stage, asking('192.168.1.4', { rangeEnd: '192.168.1.3' }), { ownCode: 7, msg: outside }, other);
    await refusedAdd(stage, asking('192.168.1.2', { rangeStart: '192.168.1.3' }), { ownCode: 7, msg: outside }, other);
    await refusedAdd(stage, asking('192.168.1.1'), { msg: /192\.168\.1\.1/ }, other);
  },
};

export const ALLOCATOR_ROWS: readonly Row[] = [
  turnsRow(
    'the table of round-robin cases',
    ['allocator/round-robin', 'allocator/next-range', 'allocator/first-range', 'range/too-small'],
    ROUND_ROBIN,
  ),
  turnsRow('no address is left', ['allocator/exhausted'], FULL),
  throughRow(
    'from its start',
    ['allocator/from-start', 'allocator/no-broadcast', 'allocator/no-gateway'],
    undefined,
    [2, 3, 4, 5, 6],
  ),
  throughRow('from its end', ['allocator/from-end'], '192.168.1.6', [2, 3, 4, 5, 6]),
  throughRow('from its middle', ['allocator/from-middle'], '192.168.1.3', [4, 5, 6, 2, 3]),
  notTheLast,
  requested,
];
