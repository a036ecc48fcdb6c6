// Ranges made disjoint, against counting on fingers.

import * as fc from 'fast-check';
import t from 'tap';
import {
  type Box,
  disjointBoxes,
  disjointPorts,
  EVERY_PORT,
  rangeText,
  without,
} from '../../../flanneld/policy/spans.ts';
import { addressOf, contains, fromNumber, prefix, type Prefix, toNumber } from '../../../model/ip.ts';
import { count } from '../../support/count.ts';
import { seed } from '../../support/seed.ts';

const span = fc
  .tuple(fc.constantFrom(6, 17), fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 12 }))
  .map(([protocol, a, b]) => ({ protocol, from: Math.min(a, b), to: Math.max(a, b) }));

const box = fc
  .tuple(
    fc.integer({ min: 0, max: 20 }),
    fc.integer({ min: 0, max: 20 }),
    fc.array(span, { minLength: 1, maxLength: 2 }),
  )
  .map(([a, b, ports]): Box => ({ from: BigInt(Math.min(a, b)), to: BigInt(Math.max(a, b)), ports }));

/** How many boxes allow it. */
const hits = (boxes: readonly Box[], address: number, protocol: number, port: number): number =>
  boxes
    .filter(({ from, to }) => from <= address && address <= to)
    .flatMap(({ ports }) => ports)
    .filter((each) => (each.protocol === 'any' || each.protocol === protocol) && each.from <= port && port <= each.to)
    .length;

t.test('boxes made disjoint cover what they covered', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(box, { maxLength: 6 }), (boxes) => {
        const disjoint = disjointBoxes(boxes);
        for (let address = 0; address <= 21; address++)
          for (const protocol of [6, 17])
            for (let port = 0; port <= 13; port++) {
              if (hits(disjoint, address, protocol, port) !== Math.min(1, hits(boxes, address, protocol, port)))
                return false;
            }
        return true;
      }),
      { seed, numRuns: count(4000) },
    ),
  );
  const all = [{ from: 0n, to: 9n, ports: [EVERY_PORT] }];
  t.same(disjointBoxes([...all, { from: 3n, to: 5n, ports: [{ protocol: 6, from: 1, to: 2 }] }]), all, 'swallowed');
  t.same(disjointBoxes([]), []);
});

t.test('ports made disjoint: those that touch are one', async (t) => {
  const [a, b, c] = [
    { protocol: 6, from: 80, to: 90 },
    { protocol: 6, from: 91, to: 95 },
    { protocol: 17, from: 85, to: 85 },
  ];
  t.same(disjointPorts([c, b, a]), [{ protocol: 6, from: 80, to: 95 }, c], 'those that touch are one');
  t.same(disjointPorts([a, EVERY_PORT]), [EVERY_PORT]);
});

const inner = fc
  .tuple(fc.integer({ min: 25, max: 32 }), fc.integer({ min: 0, max: 255 }))
  .map(([length, host]) => `10.0.0.${host - (host % 2 ** (32 - length))}/${length}` as Prefix);

t.test('a block less its exceptions', async (t) => {
  const block = prefix('10.0.0.0/24');
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(inner, { maxLength: 4 }), (except) => {
        const left = without(block, except);
        for (let host = 0; host < 256; host++) {
          const address = fromNumber(4, toNumber(addressOf(block)) + BigInt(host));
          const number = toNumber(address);
          const found = left.filter(({ from, to }) => from <= number && number <= to).length;
          if (found !== (except.some((hole) => contains(hole, address)) ? 0 : 1)) return false;
        }
        return true;
      }),
      { seed, numRuns: count(2000) },
    ),
  );
  t.same(without(prefix('::/0'), [prefix('::/0')]), []);
});

t.test('ranges as nft lists them', async (t) => {
  const text = (first: string, last: string) => {
    const family = first.includes(':') ? 6 : 4;
    return rangeText(family, toNumber(addressOf(prefix(`${first}/32`))), toNumber(addressOf(prefix(`${last}/32`))));
  };
  t.equal(text('10.0.0.1', '10.0.0.1'), '10.0.0.1');
  t.equal(text('10.0.0.0', '10.0.0.255'), '10.0.0.0/24');
  t.equal(text('10.0.0.1', '10.0.0.2'), '10.0.0.1-10.0.0.2');
  t.equal(text('0.0.0.0', '255.255.255.255'), '0.0.0.0/0');
  t.equal(text('fd00::', 'fd00::ffff'), 'fd00::/112');
  t.equal(text('fd00::1', 'fd00::ffff'), 'fd00::1-fd00::ffff');
});
