// Forgetting flows: connection tracking entries as ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h). A flow that
// is tracked keeps the translation it began with, whatever the rules say since.

import { hasErrno } from '../model/errors.ts';
import { FAMILIES, type Family, fromBytes, type Ip, toBytes } from '../model/ip.ts';
import { attribute, attributesOf, nested } from './attributes.ts';
import type { FlowFilter } from './kernel.ts';
import type { NetlinkSocket, Reply, Request } from './netlink.ts';
import { AF } from './wire.ts';

/** NFNL_SUBSYS_CTNETLINK << 8 with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE. */
const GET = 0x101;
const DELETE = 0x102;
/** Bytes of struct nfgenmsg. */
const HEADER = 4;
const CTA = { original: 1, reply: 2, id: 12, zone: 18, filter: 25 } as const;
const TUPLE = { addresses: 1, protocol: 2 } as const;
const SOURCE: Record<Family, number> = { 4: 1, 6: 3 };
const DESTINATION: Record<Family, number> = { 4: 2, 6: 4 };
const PROTOCOL = { number: 1, destinationPort: 3 } as const;
/** The parts of a tuple that a filter compares (net/netfilter/nf_internals.h: CTA_FILTER_F_CTA_…). */
const COMPARE = { source: 1, protocol: 8, destinationPort: 32 } as const;
const NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;

/** One direction of a flow. */
interface Tuple {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: number;
  readonly destinationPort: number | undefined;
}

interface Flow {
  readonly family: Family;
  readonly original: Tuple;
  readonly reply: Tuple;
  /** The attributes that name the entry in a deletion. */
  readonly name: Buffer;
}

/** Forgets the flows that match, and gives their number. Equivalent to: conntrack --delete … @throws NetError kernel */
export function forgetFlows(socket: NetlinkSocket, filter: FlowFilter): number {
  const flows = questions(filter)
    .flatMap((request) => socket.dump(request))
    .map(readFlow)
    .filter((flow) => flow !== undefined)
    .filter((flow) => matches(flow, filter));
  const errors = socket.batch(flows.map(deletion));
  // ENOENT: it ended by itself, or was listed twice.
  const serious = errors.find((error) => error !== undefined && !hasErrno(error, 'ENOENT'));
  if (serious !== undefined) throw serious;
  return flows.filter((_, at) => errors[at] === undefined).length;
}

/** Whether the flow is one of those meant. Looked at here too, since Linux before 5.8 ignores filters. */
function matches({ original, reply }: Flow, { protocol, destination, destinationPort, end }: FlowFilter): boolean {
  return (
    (protocol === undefined || original.protocol === NUMBERS[protocol]) &&
    (destination === undefined || original.destination === destination) &&
    (destinationPort === undefined || original.destinationPort === destinationPort) &&
    (end === undefined || original.source === end || reply.source === end)
  );
}

/** Dumps that together list every flow that matches, and few others. */
function questions({ family, protocol, destinationPort, end }: FlowFilter): Request[] {
  if (protocol !== undefined && destinationPort !== undefined) {
    const number = attribute(PROTOCOL.number, Uint8Array.of(NUMBERS[protocol]));
    const port = attribute(PROTOCOL.destinationPort, Uint8Array.of(destinationPort >> 8, destinationPort & 255));
    const compare = COMPARE.protocol | COMPARE.destinationPort;
    return [question(family, 'original', nested(TUPLE.protocol, number, port), compare)];
  }
  if (end === undefined) return [dump(family)];
  const source = nested(TUPLE.addresses, attribute(SOURCE[family], toBytes(end)));
  return (['original', 'reply'] as const).map((direction) => question(family, direction, source, COMPARE.source));
}

/** A dump of the flows one direction of which has these parts. */
function question(family: Family, direction: 'original' | 'reply', tuple: Buffer, compare: number): Request {
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(compare);
  // A filter's parts have the numbers of the tuples that they are about.
  const filter = nested(CTA.filter, attribute(CTA[direction], flags));
  return dump(family, Buffer.concat([nested(CTA[direction], tuple), filter]));
}

/** Equivalent to: conntrack --dump */
const dump = (family: Family, attributes: Buffer = Buffer.alloc(0)): Request => ({
  type: GET,
  flags: 0,
  attempt: `list IPv${family} flows`,
  write: (out) => out.emit(Buffer.concat([header(family), attributes])),
});

const header = (family: Family): Buffer => Buffer.from([AF[family], 0, 0, 0]);

const deletion = ({ family, original, name }: Flow): Request => ({
  type: DELETE,
  flags: 0,
  attempt: `forget the flow from ${original.source} to ${original.destination}`,
  subject: original.source,
  write: (out) => out.emit(Buffer.concat([header(family), name])),
});

function readFlow(reply: Reply): Flow | undefined {
  const family = FAMILIES.find((each) => AF[each] === reply.data[0]);
  const attributes = attributesOf(reply.data.subarray(HEADER));
  const [original, back, id, zone] = [CTA.original, CTA.reply, CTA.id, CTA.zone].map((type) => attributes.get(type));
  if (family === undefined || original === undefined || back === undefined) return undefined;
  const name = [
    nested(CTA.original, original),
    ...(id === undefined ? [] : [attribute(CTA.id, id)]),
    ...(zone === undefined ? [] : [attribute(CTA.zone, zone)]),
  ];
  return { family, original: readTuple(family, original), reply: readTuple(family, back), name: Buffer.concat(name) };
}

function readTuple(family: Family, data: Buffer): Tuple {
  const tuple = attributesOf(data);
  const addresses = attributesOf(tuple.get(TUPLE.addresses));
  const protocol = attributesOf(tuple.get(TUPLE.protocol));
  return {
    source: fromBytes(addresses.get(SOURCE[family]) as Buffer),
    destination: fromBytes(addresses.get(DESTINATION[family]) as Buffer),
    protocol: protocol.get(PROTOCOL.number)?.[0] ?? 0,
    destinationPort: protocol.get(PROTOCOL.destinationPort)?.readUInt16BE(),
  };
}
