// Keeps what guards the source addresses of pods as it should be, whoever changes it; on the bridges of pods that another
// plugin attaches too, which come and go without a word from it.

import type { SourceGuard } from '../../cni-plugin/source-guard.ts';
import { GUARD_TABLE, isGuardSet } from '../../cni-plugin/sources.ts';
import type { Change, Kernel } from '../../kernel/kernel.ts';
import { describe } from '../../model/errors.ts';
import type { Ip } from '../../model/ip.ts';
import type { Log } from '../log.ts';
import { bridgesTo } from './foreign.ts';

export interface GuardKeeperDeps {
  readonly kernel: Kernel;
  readonly sources: SourceGuard;
  readonly log: Log;
  /** Addresses of pods that another plugin has attached. */
  foreign(): readonly Ip[];
}

export interface GuardKeeper {
  /** Compares all of it with what it should be, and puts it right. Never throws. */
  look(): void;
  /** Whether a change in the host's namespace may be one of the guard. */
  matters(change: Change): boolean;
  /** Whether pods that another plugin has attached have come or gone since this was last asked. */
  hasOthers(): boolean;
  /** Why the guard isn't as it should be; undefined when it is. */
  trouble(): string | undefined;
}

/** Looks at nothing before it is told to. */
export function keepGuard({ kernel, sources, log, foreign }: GuardKeeperDeps): GuardKeeper {
  let trouble: string | undefined;
  let isSetUp = false;
  let asked = '';
  return {
    look() {
      try {
        const amiss = sources.sync(bridgesTo(kernel, foreign()));
        // At the start nothing of it need be there.
        if (amiss.length > 0 && isSetUp) log.warn({ amiss }, 'put right what lets in packets of pods');
        else if (amiss.length > 0) log.info({ amiss }, 'set up what lets in packets of pods');
        isSetUp = true;
        trouble = undefined;
      } catch (error) {
        trouble = `guard of pods' source addresses: ${describe(error)}`;
        log.error({}, trouble);
      }
    },
    // Elements come and go with pods.
    matters: (change) =>
      change.type === 'overrun' ||
      (change.type === 'rules' && change.table === GUARD_TABLE && !isGuardSet(change.part)) ||
      (change.type === 'link' && sources.bridges().includes(change.device)),
    hasOthers() {
      const before = asked;
      asked = foreign().join(' ');
      return asked !== before;
    },
    trouble: () => trouble,
  };
}
