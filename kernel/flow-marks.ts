// Marks of tracked flows: a number of 32 bits that rules read and write, of which everybody on the host uses some bits.

import { hasErrno } from '../model/errors.ts';
import { attribute, attributesOf, nested } from './attributes.ts';
import type { NetlinkSocket, Reply, Request } from './netlink.ts';

/** NFNL_SUBSYS_CTNETLINK << 8 with IPCTNL_MSG_CT_NEW and IPCTNL_MSG_CT_GET. */
const NEW = 0x100;
const GET = 0x101;
/** Bytes of struct nfgenmsg. */
const HEADER = 4;
/** linux/netfilter/nfnetlink_conntrack.h */
const CTA = { original: 1, mark: 8, zone: 18, markMask: 21 } as const;

/** To the kernel's connection tracking: one lists while the other changes. */
export interface FlowSockets {
  readonly listing: NetlinkSocket;
  readonly changing: NetlinkSocket;
}

/**
 * Takes the bits off all marks, or those that are left when the signal aborts. There may be hundreds of thousands of flows:
 * the kernel picks those that have a bit, aside. A flow that ends meanwhile has no mark. @throws NetError kernel
 */
export async function unmarkFlows(
  { listing, changing }: FlowSockets,
  mask: number,
  signal: AbortSignal,
): Promise<void> {
  for (const bit of bitsOf(mask)) {
    for await (const marked of listing.dumpAside(flowsWith(bit))) {
      const errors = changing.batch(marked.flatMap((reply) => unmarking(reply, mask)));
      const serious = errors.find((error) => error !== undefined && !hasErrno(error, 'ENOENT'));
      if (serious !== undefined) throw serious;
      if (signal.aborted) return;
    }
  }
}

const bitsOf = (mask: number): number[] =>
  Array.from({ length: 32 }, (_, bit) => (1 << bit) >>> 0).filter((bit) => (mask & bit) !== 0);

/** Of both families. Equivalent to: conntrack -L -m BIT/BIT */
const flowsWith = (bit: number): Request => ({
  type: GET,
  flags: 0,
  attempt: 'list marked flows',
  write: (out) =>
    out.emit(
      Buffer.concat([Buffer.alloc(HEADER), attribute(CTA.mark, number32(bit)), attribute(CTA.markMask, number32(bit))]),
    ),
});

/** The request that takes the bits off one flow's mark, if they are on it. */
function unmarking({ data }: Reply, mask: number): Request[] {
  const attributes = attributesOf(data.subarray(HEADER));
  const [original, zone] = [attributes.get(CTA.original), attributes.get(CTA.zone)];
  const mark = attributes.get(CTA.mark)?.readUInt32BE() ?? 0;
  if (original === undefined || (mark & mask) === 0) return [];
  const body = Buffer.concat([
    data.subarray(0, HEADER),
    nested(CTA.original, original),
    ...(zone === undefined ? [] : [attribute(CTA.zone, zone)]),
    attribute(CTA.mark, number32(0)),
    attribute(CTA.markMask, number32(mask)),
  ]);
  return [{ type: NEW, flags: 0, attempt: 'change the mark of a flow', write: (out) => out.emit(body) }];
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
