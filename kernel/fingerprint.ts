// Whether a namespace is as it was, told without making values of what the kernel lists: with thousands of peers those are
// tens of thousands, and most of the time nothing has changed.

import { createHash } from 'node:crypto';
import { eachOf, type Sliced } from '../model/slices.ts';
import { eachAttribute } from './attributes.ts';
import type { Reply } from './netlink.ts';

/** Of struct rtmsg and struct ndmsg alike. */
const HEADER = 12;
/** What counts uses and time: RTA_CACHEINFO (linux/rtnetlink.h); NDA_CACHEINFO, NDA_PROBES (linux/neighbour.h). */
const RESTLESS_OF_ROUTES = [12];
const RESTLESS_OF_NEIGHBOURS = [3, 4];

/** As the kernel lists them; what counts uses and time is overwritten here. */
export interface Listed {
  readonly routes: readonly Reply[];
  /** With forwarding entries. */
  readonly neighbours: readonly Reply[];
}

/** A text that is another one once anything differs, the rest being few values. */
export function* fingerprintOf({ routes, neighbours }: Listed, rest: unknown): Sliced<string> {
  const hash = createHash('sha256').update(JSON.stringify(rest));
  yield* eachOf(routes, ({ data }) => hash.update(without(data, RESTLESS_OF_ROUTES)));
  yield* eachOf(neighbours, ({ data }) => hash.update(without(data, RESTLESS_OF_NEIGHBOURS)));
  return hash.digest('base64');
}

function without(data: Buffer, restless: readonly number[]): Buffer {
  eachAttribute(data, HEADER, (type, at, length) => {
    if (restless.includes(type)) data.fill(0, at, at + length);
  });
  return data;
}
