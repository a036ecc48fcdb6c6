// Keeps udp-proxy running with the routes it should have: started again when it ends, with growing pauses, and given all
// routes anew each time.

import type { Child, StartChild } from '../../kernel/child.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { pauses } from '../subnet/pauses.ts';
import type { ProxySettings } from './backend.ts';
import { ANSWER_BYTES, COUNT, type ProxyCounters, readCounters, replaceRoutes } from './udp-control.ts';

export interface ProxyDeps {
  /** Path of the program. */
  readonly program: string;
  readonly start: StartChild;
}

/** The part of /status. */
export interface ProxyStatus {
  readonly pid: number | undefined;
  /** How often it had to be started again. */
  readonly restarts: number;
  /** Why it doesn't run. */
  readonly trouble?: string | undefined;
  /** As it last told them; they begin anew when it does. */
  readonly counters?: ProxyCounters | undefined;
}

export interface ProxyKeeper {
  /** Says what it should do from now on. */
  hold(settings: ProxySettings): void;
  status(): ProxyStatus;
  stop(): void;
}

/** Between two questions for the counters (ms). */
const COUNT_MS = 5000;

/** Starts nothing before it has something to do. */
export function keepProxy({ program, start }: ProxyDeps, clock: Clock, log: Log): ProxyKeeper {
  const pause = pauses();
  let wanted: ProxySettings | undefined;
  let given = '';
  let child: { readonly process: Child; readonly args: string; ready: boolean } | undefined;
  let counters: ProxyCounters | undefined;
  let trouble: string | undefined = 'udp-proxy has not been started yet';
  let restarts = 0;
  let stopped = false;
  let cancel = () => {};

  const launch = (settings: ProxySettings) => {
    const began = clock.now();
    let received = Buffer.alloc(0);
    given = '';
    const current = {
      args: JSON.stringify(settings.args),
      ready: false,
      process: start(program, settings.args, {
        onData(data) {
          received = Buffer.concat([received, data]);
          for (; received.length >= ANSWER_BYTES; received = received.subarray(ANSWER_BYTES)) {
            counters = readCounters(received.subarray(0, ANSWER_BYTES));
          }
          if (counters === undefined || child !== current) return;
          if (!current.ready) log.info({ pid: current.process.pid }, 'udp-proxy carries packets');
          current.ready = true;
          trouble = undefined;
          update();
        },
        onEnd(why) {
          if (child !== current) return;
          child = undefined;
          counters = undefined;
          if (stopped) return;
          if (trouble !== why) log.warn({}, `udp-proxy: ${why}; it is started again`);
          trouble = why;
          restarts++;
          cancel();
          cancel = clock.after(pause(clock.now() - began), () => wanted && launch(wanted));
        },
      }),
    };
    child = current;
  };
  const update = () => {
    if (wanted === undefined || child === undefined || !child.ready) return;
    const routes = JSON.stringify([wanted.port, wanted.routes]);
    if (routes === given) return;
    child.process.send(replaceRoutes(wanted.routes, wanted.port));
    given = routes;
  };
  const ask = (): (() => void) =>
    clock.after(COUNT_MS, () => {
      if (child?.ready) child.process.send(COUNT);
      cancelAsking = ask();
    });
  let cancelAsking = ask();

  return {
    hold(settings) {
      const first = wanted === undefined;
      wanted = settings;
      // Another address or subnet: its end is followed by a new start.
      if (child !== undefined && child.args !== JSON.stringify(settings.args)) child.process.close();
      if (first) launch(settings);
      update();
    },
    status: () => ({ pid: child?.process.pid, restarts, trouble, counters }),
    stop() {
      stopped = true;
      cancel();
      cancelAsking();
      child?.process.close();
    },
  };
}
