// Random events in the life of a cluster, as plain values: any part of a sequence is a sequence too, so that one that shows
// a defect can be cut down by hand and run again.

import { below } from './seed.ts';

/** Node 3 is a real one that comes and goes; peers from {@link FIRST_LEASE} on are leases with no machine behind them. */
export type Event = { readonly after: number } & (
  | { readonly what: 'peer joins' | 'peer leaves' | 'peer changes'; readonly peer: number }
  | {
      readonly what: 'device deleted' | 'route deleted' | 'neighbour deleted' | 'rule deleted';
      readonly node: number;
      /** Which of those that there are, counted round. */
      readonly which: number;
    }
  | { readonly what: 'agent killed'; readonly node: number }
  | { readonly what: 'etcd restarted'; readonly downMs: number }
  | { readonly what: 'etcd compacted' }
  | { readonly what: 'underlay flapped'; readonly node: number; readonly downMs: number; readonly carrier: boolean }
);

export const FIRST_LEASE = 10;
const LEASES = 4;
const NODES = 3;
const LOSSES = ['device deleted', 'route deleted', 'neighbour deleted', 'rule deleted'] as const;
const PEERS = ['peer joins', 'peer joins', 'peer leaves', 'peer changes'] as const;

/** So many events; `after` are milliseconds since the one before. */
export function randomSequence(length: number, next: () => number): Event[] {
  return Array.from({ length }, () => ({ after: next() < 0.5 ? 0 : below(200, next), ...randomEvent(next) }) as Event);
}

function randomEvent(next: () => number): object {
  const node = 1 + below(NODES, next);
  const which = below(8, next);
  switch (below(9, next)) {
    case 0:
    case 1:
    case 2: {
      const peer = next() < 0.3 ? NODES : FIRST_LEASE + below(LEASES, next);
      return { what: PEERS[below(PEERS.length, next)], peer };
    }
    case 3:
    case 4:
      return { what: LOSSES[below(LOSSES.length, next)], node, which };
    case 5:
      return { what: 'agent killed', node };
    case 6:
      return { what: 'etcd restarted', downMs: below(1000, next) };
    case 7:
      return { what: 'etcd compacted' };
    default:
      return { what: 'underlay flapped', node, downMs: below(500, next), carrier: next() < 0.5 };
  }
}
