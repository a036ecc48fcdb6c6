// Probes the way to each peer with echoes, at a low rate, and keeps what the last ones said. It only looks: nothing is
// made ready, unready or different by what it finds.

import type { EchoSocket, OpenEchoes } from '../../kernel/probe.ts';
import { describe } from '../../model/errors.ts';
import type { Family, Ip } from '../../model/ip.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { isAnyFresh, NO_TURNS, paceOf, QUICKEST_MS, takeTurn, type Turns, withTargets } from './turns.ts';
import { addRound, type Findings, findingsOf, type Window } from './window.ts';

/** One family of one peer. */
export interface Target {
  /** Of its lease. */
  readonly key: string;
  readonly family: Family;
  /** What answers there. */
  readonly address: Ip;
  /** Of a packet as large as the MTU of pods. */
  readonly bytes: number;
}

/** What the probes of one family of a peer say: the part of its status. */
export interface ProbeStatus extends Findings {
  readonly family: Family;
  readonly address: Ip;
}

export interface Prober {
  /** Says whom to probe from now on. */
  hold(targets: readonly Target[]): void;
  /** By the keys of leases. */
  findings(): ReadonlyMap<string, readonly ProbeStatus[]>;
  /** Why nothing is probed, where that is so. */
  trouble(): string | undefined;
  stop(): void;
}

export interface ProberOptions {
  readonly open: OpenEchoes;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** An echo that is not answered by then is lost (ms). */
const ANSWER_MS = 2000;
const SMALL_BYTES = 84;

/** A target with its name, and what it has answered. */
interface Probed extends Target {
  readonly id: string;
  window: Window;
}

interface Pending {
  readonly sentAt: number;
  readonly answered: (ms: number) => void;
}

const idOf = ({ key, family, address, bytes }: Target): string => `${key} ${family} ${address} ${bytes}`;

/** Probes every target once in each interval. */
export function startProber({ open, intervalMs, clock, log }: ProberOptions): Prober {
  const sockets = new Map<Family, EchoSocket>();
  const pending = new Map<number, Pending>();
  const waits = new Set<() => void>();
  let turns: Turns<Probed> = NO_TURNS;
  let sequence = 0;
  let trouble: string | undefined;
  let lastTurn = Number.NEGATIVE_INFINITY;
  let cancelTurn = () => {};

  const fail = (error: unknown) => {
    const text = describe(error);
    if (text !== trouble) log.warn({}, `peers can't be probed: ${text}; trying again`);
    trouble = text;
  };

  const reply = (number: number) => {
    const echo = pending.get(number);
    if (echo === undefined) return;
    pending.delete(number);
    echo.answered(clock.now() - echo.sentAt);
  };

  /** A socket that failed is opened anew at the next turn of its family. */
  function socketFor(family: Family): EchoSocket | undefined {
    const known = sockets.get(family);
    if (known !== undefined) return known;
    try {
      const onFailure = (error: unknown) => {
        sockets.delete(family);
        fail(error);
      };
      const socket = open(family, { onReply: reply, onFailure });
      sockets.set(family, socket);
      trouble = undefined;
      return socket;
    } catch (error) {
      fail(error);
      return undefined;
    }
  }

  function probe(target: Probed): void {
    const socket = socketFor(target.family);
    if (socket === undefined) return;
    const round: { small: number | undefined; full: number | undefined } = { small: undefined, full: undefined };
    const sent = [
      send(socket, target.address, SMALL_BYTES, (ms) => {
        round.small = ms;
        if (round.full !== undefined) finish();
      }),
      send(socket, target.address, target.bytes, (ms) => {
        round.full = ms;
        if (round.small !== undefined) finish();
      }),
    ];
    const finish = () => {
      cancel();
      waits.delete(cancel);
      for (const number of sent) pending.delete(number);
      target.window = addRound(target.window, round);
    };
    const cancel = clock.after(ANSWER_MS, finish);
    waits.add(cancel);
  }

  function send(socket: EchoSocket, address: Ip, bytes: number, answered: (ms: number) => void): number {
    sequence = (sequence + 1) & 0xffff;
    const number = sequence;
    pending.set(number, { sentAt: clock.now(), answered });
    socket.send(address, number, bytes);
    return number;
  }

  function schedule(): void {
    cancelTurn();
    if (turns.targets.length === 0) return;
    const pace = isAnyFresh(turns) ? QUICKEST_MS : paceOf(turns.targets.length, intervalMs);
    cancelTurn = clock.after(Math.max(0, lastTurn + pace - clock.now()), () => {
      lastTurn = clock.now();
      const taken = takeTurn(turns);
      turns = taken.turns;
      if (taken.target !== undefined) probe(taken.target);
      schedule();
    });
  }

  return {
    hold(targets) {
      const known = new Map(turns.targets.map((target) => [target.id, target]));
      const wanted = targets.map((target): Probed => {
        const id = idOf(target);
        return known.get(id) ?? { ...target, id, window: [] };
      });
      const same = wanted.length === known.size && wanted.every(({ id }) => known.has(id));
      if (same) return;
      turns = withTargets(turns, wanted);
      schedule();
    },
    findings: () =>
      new Map(
        [...Map.groupBy(turns.targets, ({ key }) => key)].map(([key, targets]) => [
          key,
          targets.map(({ family, address, window }) => ({ family, address, ...findingsOf(window) })),
        ]),
      ),
    trouble: () => trouble,
    stop() {
      cancelTurn();
      for (const cancel of waits) cancel();
      for (const socket of sockets.values()) socket.close();
    },
  };
}
