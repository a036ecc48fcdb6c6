// One seed for everything random in a run. It is fresh unless FLANNEL_TEST_SEED gives it, and printed, so that a failure
// can be run again as it was.

import { randomInt } from 'node:crypto';

const given = process.env.FLANNEL_TEST_SEED;

export const seed = given === undefined ? randomInt(2 ** 31) : Number(given);
if (!Number.isInteger(seed)) throw new Error(`FLANNEL_TEST_SEED is not an integer: ${given}`);
if (given === undefined) process.stderr.write(`seed ${seed} (again with FLANNEL_TEST_SEED=${seed})\n`);

/** Numbers in [0, 1) that depend on the seed and the salt only (mulberry32). Give every test a salt of its own. */
export function random(salt = ''): () => number {
  let state = seed;
  for (const char of salt) state = Math.imul(state ^ char.charCodeAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number in [0, limit). */
export const below = (limit: number, next: () => number): number => Math.floor(next() * limit);

/** The items in a random order. */
export function shuffled<T>(items: readonly T[], next: () => number): T[] {
  return items
    .map((item) => ({ item, key: next() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
