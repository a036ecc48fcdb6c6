// What a filter rule asks of a packet, as a value, whichever program's words it was written in. Pure.

import { contains, overlaps, type Prefix, tryIp, tryPrefix, hostPrefix } from '../../model/ip.ts';

/** Something that a filter judges: not one packet but all of a kind. What is undefined may be anything. */
export interface Traffic {
  /** In words: "pods to pods of other nodes". */
  readonly what: string;
  readonly source?: Prefix | undefined;
  readonly destination?: Prefix | undefined;
  readonly in?: string | undefined;
  readonly out?: string | undefined;
  readonly protocol?: 'udp' | undefined;
  readonly port?: number | undefined;
}

/**
 * `part`: true of some of the traffic and not of the rest (a protocol, a rate). `unknown`: nothing is understood of it. The
 * others compare one field with values, any of which will do.
 */
export type Condition =
  | { readonly field: 'part' | 'unknown' }
  | {
      readonly field: 'source' | 'destination' | 'in' | 'out' | 'protocol' | 'port' | 'state' | 'family';
      readonly values: readonly string[];
      readonly negated: boolean;
    };

export type Answer = 'yes' | 'no' | 'part' | 'unknown';

/** Whether a condition is true of the traffic, all of it the first packets of flows. */
function ask(condition: Condition, traffic: Traffic): Answer {
  switch (condition.field) {
    case 'part':
    case 'unknown':
      return condition.field;
    case 'source':
      return judged(condition, (value) => inPrefix(value, traffic.source));
    case 'destination':
      return judged(condition, (value) => inPrefix(value, traffic.destination));
    case 'in':
      return judged(condition, (value) => isDevice(value, traffic.in));
    case 'out':
      return judged(condition, (value) => isDevice(value, traffic.out));
    case 'protocol':
      return judged(condition, (value) => isProtocol(value, traffic.protocol));
    case 'port':
      return judged(condition, (value) => isPort(value, traffic.port));
    case 'state':
      return judged(condition, (value) => (value.toLowerCase() === 'new' ? 'yes' : 'no'));
    case 'family':
      return judged(condition, (value) => isFamily(value, traffic.source ?? traffic.destination));
  }
}

type Comparison = Extract<Condition, { values: unknown }>;

function judged({ values, negated }: Comparison, one: (value: string) => Answer): Answer {
  const answers = values.map(one);
  const answer = (['yes', 'unknown', 'part'] as const).find((each) => answers.includes(each)) ?? 'no';
  if (!negated) return answer;
  return answer === 'yes' ? 'no' : answer === 'no' ? 'yes' : answer;
}

/** Of several conditions, all of which must be true. */
export function askAll(conditions: readonly Condition[], traffic: Traffic): Answer {
  const answers = conditions.map((condition) => ask(condition, traffic));
  return (['no', 'part', 'unknown'] as const).find((each) => answers.includes(each)) ?? 'yes';
}

/** A device nobody knows yet is not the loopback device. */
function isDevice(pattern: string, device: string | undefined): Answer {
  if (device === undefined) return pattern === 'lo' ? 'no' : 'unknown';
  const wild = /^(.*)[*+]$/.exec(pattern);
  return (wild === null ? device === pattern : device.startsWith(wild[1] as string)) ? 'yes' : 'no';
}

function inPrefix(text: string, traffic: Prefix | undefined): Answer {
  const ip = tryIp(text);
  const prefix = ip === undefined ? tryPrefix(text) : hostPrefix(ip);
  if (prefix === undefined || traffic === undefined) return 'unknown';
  if (contains(prefix, traffic)) return 'yes';
  return overlaps(prefix, traffic) ? 'part' : 'no';
}

const UDP: readonly string[] = ['udp', '17'];
const isProtocol = (value: string, protocol: 'udp' | undefined): Answer =>
  protocol === undefined ? (value === 'all' ? 'yes' : 'part') : UDP.includes(value) || value === 'all' ? 'yes' : 'no';

function isPort(value: string, port: number | undefined): Answer {
  if (port === undefined) return 'part';
  const [first, last = first] = value.split(/[-:]/).map(Number);
  if (first === undefined || last === undefined || Number.isNaN(first + last)) return 'unknown';
  return first <= port && port <= last ? 'yes' : 'no';
}

function isFamily(value: string, address: Prefix | undefined): Answer {
  if (address === undefined) return 'unknown';
  return (value === 'ipv6' || value === '10') === address.includes(':') ? 'yes' : 'no';
}
