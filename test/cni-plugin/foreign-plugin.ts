// A plugin of somebody else for tests of the verbs: notes what it is executed with, and answers what it is told to.

import type { Dependencies } from '../../cni-plugin/verbs.ts';
import type { Ending, Variables } from '../../cni-plugin/wire.ts';

export interface Order {
  readonly plugin: string;
  readonly changes: Variables;
  readonly input: string;
}

type Answer = Partial<Ending> | (() => Promise<Ending>);

export interface ForeignPlugins {
  /** To put among a machine's dependencies. */
  readonly execute: Dependencies['execute'];
  /** What was asked for since the last time: plugin and verb. */
  calls(): string[];
  /** The last order with that verb. */
  last(verb: string): Order;
  /** How the plugins answer the verb from now on; without an answer they succeed again. */
  answer(verb: string, answer?: Answer): void;
}

export const ADDRESSES = {
  cniVersion: '1.1.0',
  ips: [{ address: '10.7.0.9/24', gateway: '10.7.0.1' }],
  routes: [{ dst: '198.51.100.0/24', mtu: 1300, priority: 7 }],
  dns: { nameservers: ['10.7.0.53'] },
};

/** An error object, with the exit status that goes with it. */
export const refusal = (error: object): Partial<Ending> => ({ status: 1, output: JSON.stringify(error) });

/** Plugins whose ADD prints the result. */
export function foreignPlugins(result: object = ADDRESSES): ForeignPlugins {
  const orders: Order[] = [];
  const answers = new Map<string, Answer>();
  let told = 0;
  return {
    async execute(plugin, changes, input) {
      orders.push({ plugin, changes, input });
      const verb = changes.CNI_COMMAND as string;
      const answer = answers.get(verb) ?? {};
      if (typeof answer === 'function') return answer();
      return { status: 0, output: verb === 'ADD' ? JSON.stringify(result) : '', errors: '', ...answer };
    },
    calls() {
      const since = orders.slice(told);
      told = orders.length;
      return since.map(({ plugin, changes }) => `${plugin} ${changes.CNI_COMMAND}`);
    },
    last(verb) {
      const found = orders.findLast(({ changes }) => changes.CNI_COMMAND === verb);
      if (found === undefined) throw new Error(`nothing was asked to ${verb}`);
      return found;
    },
    answer(verb, answer) {
      if (answer === undefined) answers.delete(verb);
      else answers.set(verb, answer);
    },
  };
}
