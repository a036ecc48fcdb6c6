// Queueing disciplines and the redirect filter as rtnetlink messages: RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC,
// RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER (linux/pkt_sched.h, linux/pkt_cls.h).

import { formatTc, formatTcAttrs, parseTcAttrs, type Tc, type TcAttrs } from 'netlink/dist/rt/gen_structs.js';
import { putU64 } from 'netlink/dist/structs.js';
import type { Qdisc, Redirect } from '../model/state.ts';
import { burstOf, ticksOf } from '../model/token-bucket.ts';
import { attributesOf, type Nested, type Output } from './attributes.ts';
import type { IndexOf, NameOf } from './link.ts';
import { FLAGS, type Reply, type Request } from './netlink.ts';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;
const HEADER = 20;
/** NLM_F_ECHO */
const ECHO = 8;

const ROOT = 0xffffffff;
const INGRESS = 0xfffffff1;
const INGRESS_HANDLE = 0xffff0000;
const TBF_HANDLE = 0x10000;
/** ffff:fff2: what enters the device, under an ingress discipline as under a clsact one. */
const ENTERING = 0xfffffff2;

const TBF = { parms: 1, rate64: 4 } as const;
const TBF_PARMS_BYTES = 36;
const MAX_U32 = 0xffffffff;

/** tcm_info: priority 1, protocol ETH_P_ALL in network order. */
const PRIORITY = 0x10000;
const ALL_PROTOCOLS = 0x300;
/** 800::800, the first node of the first table: u32 makes it itself where it is not told. */
const FIRST_NODE = 0x80000800;
const U32 = { selector: 5, action: 7 } as const;
const ACTION = { kind: 1, options: 2 } as const;
const MIRRED_PARMS = 2;
const TERMINAL = 1;
const STOLEN = 4;
const EGRESS_REDIRECT = 1;

function message(type: number, flags: number, attempt: string, subject: string, header: Tc, attrs: TcAttrs): Request {
  return {
    type,
    flags,
    attempt,
    subject,
    write(out) {
      out.emit(formatTc(header));
      out.emit(formatTcAttrs(attrs));
    },
  };
}

/** The package declares options as bytes but writes nested attributes just as well. */
const options = (nested: Nested): Pick<TcAttrs, 'options'> => ({ options: nested as unknown as Buffer });

const placeOf = ({ kind }: Qdisc): Tc => ({ parent: kind === 'ingress' ? INGRESS : ROOT });

/** Equivalent to: tc qdisc add|replace dev DEVICE root handle 1: tbf rate RATE burst BURST limit LIMIT, or … ingress */
export function addQdisc(qdisc: Qdisc, replace: boolean, indexOf: IndexOf): Request {
  const { device, kind } = qdisc;
  const handle = kind === 'ingress' ? INGRESS_HANDLE : TBF_HANDLE;
  const flags = FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);
  const attempt = `${replace ? 'replace' : 'add'} ${kind} qdisc dev ${device}`;
  const header = { ...placeOf(qdisc), ifindex: indexOf(device), handle };
  return message(RTM_NEWQDISC, flags, attempt, device, header, {
    kind,
    ...(qdisc.kind === 'tbf' && options((out) => tbfOptions(qdisc, out))),
  });
}

/** struct tc_tbf_qopt: rate and peak rate of 12 bytes each (the number last), limit, buffer, mtu. */
function tbfOptions(qdisc: Extract<Qdisc, { kind: 'tbf' }>, out: Output): void {
  const parms = Buffer.alloc(TBF_PARMS_BYTES);
  parms.writeUInt32LE(Math.min(qdisc.rate, MAX_U32), 8);
  parms.writeUInt32LE(qdisc.limit, 24);
  parms.writeUInt32LE(ticksOf(qdisc), 28);
  out.push(TBF.parms, parms);
  if (qdisc.rate > MAX_U32) out.push(TBF.rate64, putU64(BigInt(qdisc.rate)));
}

/** Equivalent to: tc qdisc delete dev DEVICE root|ingress */
export function deleteQdisc(qdisc: Qdisc, indexOf: IndexOf): Request {
  const { device, kind } = qdisc;
  const header = { ...placeOf(qdisc), ifindex: indexOf(device) };
  return message(RTM_DELQDISC, 0, `delete ${kind} qdisc dev ${device}`, device, header, {});
}

/**
 * Equivalent to: tc qdisc show dev DEVICE root, and … ingress: a request each. The kernel takes the answer for a
 * notification, of which the asker gets no copy unless it wants an echo; and of a built-in discipline (noqueue) it says
 * nothing, so that only the acknowledgement comes.
 */
export const getQdiscs = (device: string, ifindex: number): Request[] =>
  [ROOT, INGRESS].map((parent) =>
    message(RTM_GETQDISC, FLAGS.ack | ECHO, `read qdisc dev ${device}`, device, { ifindex, parent }, {}),
  );

/** A discipline of the kinds we know, or undefined. */
export function readQdisc(reply: Reply | undefined, device: string): Qdisc | undefined {
  if (reply === undefined) return undefined;
  const { kind, options } = parseTcAttrs(reply.data.subarray(HEADER));
  if (kind === 'ingress' || kind === 'clsact') return { device, kind: 'ingress' };
  if (kind !== 'tbf' || options === undefined) return undefined;
  const attributes = attributesOf(options);
  const parms = attributes.get(TBF.parms);
  if (parms === undefined) return undefined;
  const rate = Number(attributes.get(TBF.rate64)?.readBigUInt64LE() ?? parms.readUInt32LE(8));
  return { device, kind, rate, burst: burstOf(rate, parms.readUInt32LE(28)), limit: parms.readUInt32LE(24) };
}

/**
 * Equivalent to: tc filter add|replace dev DEVICE ingress protocol all prio 1 handle 800::800 u32 match u32 0 0
 * action mirred egress redirect dev TO
 */
export function addRedirect({ device, to }: Redirect, replace: boolean, indexOf: IndexOf): Request {
  const target = indexOf(to);
  const flags = FLAGS.create | (replace ? FLAGS.replace : FLAGS.exclusive);
  const attempt = `${replace ? 'replace' : 'add'} redirect dev ${device} to ${to}`;
  return message(RTM_NEWTFILTER, flags, attempt, device, filterHeader(indexOf(device)), {
    kind: 'u32',
    ...options((out) => {
      out.push(U32.selector, everything());
      out.push(U32.action, (actions) => actions.push(1, (action) => mirred(action, target)));
    }),
  });
}

const filterHeader = (ifindex: number): Tc => ({
  ifindex,
  parent: ENTERING,
  handle: FIRST_NODE,
  info: PRIORITY | ALL_PROTOCOLS,
});

/** struct tc_u32_sel with one key whose mask is empty. */
function everything(): Buffer {
  const selector = Buffer.alloc(32);
  selector.writeUInt8(TERMINAL, 0);
  selector.writeUInt8(1, 2);
  return selector;
}

/** struct tc_mirred: index, capabilities, action, two counters, what to do with the packet, the device. */
function mirred(out: Output, target: number): void {
  const parms = Buffer.alloc(28);
  parms.writeInt32LE(STOLEN, 8);
  parms.writeInt32LE(EGRESS_REDIRECT, 20);
  parms.writeUInt32LE(target, 24);
  out.push(ACTION.kind, Buffer.from('mirred\0'));
  out.push(ACTION.options, (inner) => inner.push(MIRRED_PARMS, parms));
}

/** Equivalent to: tc filter delete dev DEVICE ingress protocol all prio 1 handle 800::800 u32 */
export function deleteRedirect({ device }: Redirect, indexOf: IndexOf): Request {
  const attempt = `delete redirect dev ${device}`;
  return message(RTM_DELTFILTER, 0, attempt, device, filterHeader(indexOf(device)), { kind: 'u32' });
}

/** Equivalent to: tc filter show dev DEVICE ingress */
export const listFilters = (device: string, ifindex: number): Request =>
  message(RTM_GETTFILTER, 0, `list filters dev ${device}`, device, { ifindex, parent: ENTERING }, {});

/** The redirect that a filter is; undefined for any other filter, and for one whose target is gone. */
export function readRedirect(reply: Reply, device: string, nameOf: NameOf): Redirect | undefined {
  const { kind, options } = parseTcAttrs(reply.data.subarray(HEADER));
  const actions = kind === 'u32' && options !== undefined ? attributesOf(options).get(U32.action) : undefined;
  const action = actions === undefined ? undefined : attributesOf(actions).get(1);
  const parts = action === undefined ? undefined : attributesOf(action);
  if (parts?.get(ACTION.kind)?.toString() !== 'mirred\0') return undefined;
  const parms = attributesOf(parts.get(ACTION.options)).get(MIRRED_PARMS);
  const to = parms?.readInt32LE(20) === EGRESS_REDIRECT ? nameOf(parms.readUInt32LE(24)) : undefined;
  return to === undefined ? undefined : { device, to };
}
