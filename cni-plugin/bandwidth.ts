// Limits on a pod's bandwidth, pure: what the configuration asks for, and the token buckets for it. What comes in to the
// pod leaves by the host's end of its pair, and queues there. What the pod sends enters there, where nothing can queue:
// it is redirected to a device of its own (ifb) that it leaves by.

import { integer, object, optional, parse } from '../model/check.ts';
import { NetError } from '../model/errors.ts';
import type { Mac } from '../model/ip.ts';
import { EMPTY_STATE, type Qdisc, type State } from '../model/state.ts';
import { burstOf, ticksOf } from '../model/token-bucket.ts';
import type { Request } from './protocol.ts';

/** In bits: `rate` a second, `burst` at once. */
export interface Limit {
  readonly rate: number;
  readonly burst: number;
}

/** From the pod's point of view; undefined: no limit. */
export interface Bandwidth {
  readonly ingress: Limit | undefined;
  readonly egress: Limit | undefined;
}

const bits = optional(integer(0, Number.MAX_SAFE_INTEGER));
const anyCase = { anyCase: true };
const AMOUNTS = { ingressRate: bits, ingressBurst: bits, egressRate: bits, egressBurst: bits };
const BANDWIDTH = object(AMOUNTS, anyCase);
const CONFIG = object(
  { ...AMOUNTS, runtimeConfig: optional(object({ bandwidth: optional(BANDWIDTH) }, anyCase)) },
  anyCase,
);

/** The limits; the configuration's own keys win over what the runtime asks for. @throws NetError invalid-config */
export function parseBandwidth({ network, config }: Request): Bandwidth {
  const { runtimeConfig, ...own } = parse(config, CONFIG, `network ${network}`, 'invalid-config');
  const said = Object.values(own).some((value) => value !== undefined);
  const amounts = said ? own : runtimeConfig?.bandwidth;
  return {
    ingress: limit('ingress', amounts?.ingressRate, amounts?.ingressBurst),
    egress: limit('egress', amounts?.egressRate, amounts?.egressBurst),
  };
}

const MAX_BURST_BYTES = 0xffffffff;

/** In the words of the reference plugin. */
function limit(direction: string, rate = 0, burst = 0): Limit | undefined {
  const refuse = (message: string) => new NetError('invalid-config', `${direction}: ${message}`);
  if (rate === 0 && burst === 0) return undefined;
  if (burst === 0) throw refuse('if rate is set, burst must also be set');
  if (rate === 0) throw refuse('if burst is set, rate must also be set');
  if (burst / 8 >= MAX_BURST_BYTES) throw refuse('burst cannot be more than 4GB');
  if (rate < 8 || burst < 8) throw refuse('rate and burst are in bits, of which 8 are the least');
  return { rate, burst };
}

export const isLimited = ({ ingress, egress }: Bandwidth): boolean => ingress !== undefined || egress !== undefined;

/** What may wait before a bucket, beyond a burst: as much as passes in this time. */
const LATENCY_SECONDS = 0.025;

/** The token bucket of a limit, with the reference plugin's numbers. */
export function tokenBucket(device: string, limit: Limit): Qdisc {
  const rate = Math.floor(limit.rate / 8);
  const burst = Math.floor(limit.burst / 8);
  return {
    device,
    kind: 'tbf',
    rate,
    burst: burstOf(rate, ticksOf({ rate, burst })),
    limit: Math.min(Math.floor(rate * LATENCY_SECONDS) + burst, 0xffffffff),
  };
}

/** The devices that limits are put on. */
export interface ShapedPair {
  /** The host's end. */
  readonly host: string;
  /** Bytes. */
  readonly mtu: number | undefined;
  /** The device for what the pod sends. */
  readonly ifb: { readonly name: string; readonly mac: Mac };
}

/** The buckets on the host's end and on the device beside it. */
export function planShaping({ ingress, egress }: Bandwidth, { host, mtu, ifb }: ShapedPair): State {
  return {
    ...EMPTY_STATE,
    links: egress === undefined ? [] : [{ ...ifb, kind: 'ifb', up: true, mtu }],
    qdiscs: [
      ...(ingress === undefined ? [] : [tokenBucket(host, ingress)]),
      ...(egress === undefined ? [] : [{ device: host, kind: 'ingress' } as const, tokenBucket(ifb.name, egress)]),
    ],
    redirects: egress === undefined ? [] : [{ device: host, to: ifb.name }],
  };
}
