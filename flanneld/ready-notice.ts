// Tells the service manager once that the agent is ready, as flannel does: systemd waits for it where a unit has
// Type=notify, and starts what comes after the agent then.

import { describe } from '../model/errors.ts';
import type { Agent } from './agent.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

/** Between two looks, until the node is ready. */
const LOOK_MS = 100;

export interface ReadyNotice {
  readonly clock: Clock;
  readonly log: Log;
  /** @throws NetError */
  readonly tell: () => void;
}

/** The agent, whose first readiness is told. */
export const withReadyNotice = (agent: Agent, { clock, log, tell }: ReadyNotice): Agent => ({
  ...agent,
  async run(signal) {
    const look = () => {
      if (agent.unreadiness() !== undefined) {
        cancel = clock.after(LOOK_MS, look);
        return;
      }
      try {
        tell();
      } catch (error) {
        log.warn({}, `tell the service manager that the agent is ready: ${describe(error)}`);
      }
    };
    let cancel = clock.after(LOOK_MS, look);
    try {
      await agent.run(signal);
    } finally {
      cancel();
    }
  },
});
