// A second, naive implementation of addresses to compare with: the RFCs' words turned into loops over strings and bigints;
// and the addresses and near-addresses to compare by.

import fc from 'fast-check';
import { bitsOf, type Family, type Ip, type Prefix } from '../../model/ip.ts';

/** A dotted quad as a number: four decimal numbers below 256 without leading zeros. */
function naiveV4(text: string): bigint | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    if (![...part].every((char) => '0123456789'.includes(char)) || part === '' || part.length > 3) return undefined;
    if ((part.length > 1 && part[0] === '0') || Number(part) > 255) return undefined;
    value = value * 256n + BigInt(part);
  }
  return value;
}

/** RFC 4291, section 2.2: groups, one "::" for one or more of them, the last two perhaps as a dotted quad. */
function naiveV6(text: string): bigint | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const sides = halves.map((half) => (half === '' ? [] : half.split(':')));
  const tail = sides.at(-1) as string[];
  const quad = tail.length && tail.at(-1)?.includes('.') ? naiveV4(tail.pop() as string) : null;
  if (quad === undefined) return undefined;
  const groups = sides.map((side) =>
    side.map((group) => (/^[0-9a-fA-F]{1,4}$/.test(group) ? BigInt(`0x${group}`) : undefined)),
  );
  if (quad !== null) groups.at(-1)?.push(quad >> 16n, quad & 0xffffn);
  const known = groups.flat().length;
  if (halves.length === 1 ? known !== 8 : known > 7) return undefined;
  const zeros = Array.from({ length: 8 - known }, () => 0n);
  const all = halves.length === 1 ? groups.flat() : [...(groups[0] ?? []), ...zeros, ...(groups[1] ?? [])];
  return all.reduce(
    (value: bigint | undefined, group) =>
      value === undefined || group === undefined ? undefined : value * 65536n + group,
    0n,
  );
}

/** RFC 5952: lower case, no leading zeros, the first of the longest runs of two or more zero groups as "::". */
export function naivePrint(family: Family, value: bigint): string {
  const units = family === 4 ? 4 : 8;
  const width = family === 4 ? 8n : 16n;
  const groups = Array.from(
    { length: units },
    (_, at) => (value >> (width * BigInt(units - 1 - at))) & ((1n << width) - 1n),
  );
  if (family === 4) return groups.join('.');
  let best = { at: 0, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (groups[at + length] === 0n) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.length < 2) return hex.join(':');
  return `${hex.slice(0, best.at).join(':')}::${hex.slice(best.at + best.length).join(':')}`;
}

/** Canonical text, or undefined. */
export const naive = (text: string): string | undefined => {
  const family = text.includes(':') ? 6 : 4;
  const value = family === 6 ? naiveV6(text) : naiveV4(text);
  return value === undefined ? undefined : naivePrint(family, value);
};

const family = fc.constantFrom<Family[]>(4, 6);
/** Numbers with long runs of zero and of one bits, where the mistakes are. */
export const number = (of: Family): fc.Arbitrary<bigint> => {
  const bits = of === 4 ? 32n : 128n;
  const any = fc.bigInt({ min: 0n, max: (1n << bits) - 1n });
  const groups = fc.array(fc.constantFrom<bigint[]>(0n, 0n, 0n, 1n, 0xffffn, 0xabcn), { minLength: 8, maxLength: 8 });
  return fc.oneof(
    any,
    groups.map((list) => list.reduce((value, group) => value * 65536n + group, 0n) & ((1n << bits) - 1n)),
  );
};
/** An address with its number. */
export const address = family.chain((of) =>
  number(of).map((value) => ({ family: of, value, text: naivePrint(of, value) as Ip })),
);
/** A prefix, host bits set, with its parts. */
export const subnet = address.chain(({ family: of, value, text }) =>
  fc
    .integer({ min: 0, max: bitsOf(of) })
    .map((length) => ({ family: of, value, length, bits: bitsOf(of), text: `${text}/${length}` as Prefix })),
);

/** Text that is nearly an address: pieces of some, put together anyhow. */
export const scraps = fc
  .array(
    fc.constantFrom(
      '0',
      '1',
      '9',
      '00',
      '25',
      '255',
      '256',
      'f',
      'ffff',
      'A',
      '::',
      ':',
      '.',
      '1.2.3.4',
      'fe80',
      '%',
      '/',
      ' ',
      'x',
      '-',
      '\n',
      '１',
    ),
    { maxLength: 14 },
  )
  .map((parts) => parts.join(''));
