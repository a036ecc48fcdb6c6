// Marks of tracked flows: a number of 32 bits that rules read and write, of which everybody on the host uses some bits.

import { hasErrno } from '../model/errors.ts';
import { FAMILIES } from '../model/ip.ts';
import { attribute, attributesOf, nested } from './attributes.ts';
import { header } from './conntrack.ts';
import type { NetlinkSocket, Reply, Request } from './netlink.ts';

/** NFNL_SUBSYS_CTNETLINK << 8 with IPCTNL_MSG_CT_NEW and IPCTNL_MSG_CT_GET. */
const NEW = 0x100;
const GET = 0x101;
/** Bytes of struct nfgenmsg. */
const HEADER = 4;
/** linux/netfilter/nfnetlink_conntrack.h */
const CTA = { original: 1, mark: 8, zone: 18, markMask: 21 } as const;

/** Takes the bits off all marks. A flow that ends meanwhile has none. @throws NetError kernel */
export function unmarkFlows(socket: NetlinkSocket, mask: number): void {
  const marked = FAMILIES.flatMap((family) =>
    socket.dump({
      type: GET,
      flags: 0,
      attempt: `list IPv${family} flows`,
      write: (out) => out.emit(header(family)),
    }),
  ).flatMap((reply) => unmarking(reply, mask));
  const serious = socket.batch(marked).find((error) => error !== undefined && !hasErrno(error, 'ENOENT'));
  if (serious !== undefined) throw serious;
}

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
