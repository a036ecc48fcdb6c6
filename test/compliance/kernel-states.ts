// From any state to any other in one go: what diff plans and apply does leaves nothing to do. Random states, one after the
// other in one namespace, as in tailscale's TestRouterStates.

import fc from 'fast-check';
import t from 'tap';
import type { Query } from '../../kernel/kernel.ts';
import { diff, type Owns } from '../../model/diff.ts';
import { EMPTY_STATE, type State } from '../../model/state.ts';
import { printSteps } from '../../model/steps.ts';
import { seed } from '../support/seed.ts';
import { KEYS, NAMES, state } from './kernel-random-state.ts';
import { add, bridge, remove, type Setup, type Subject } from './kernel-subject.ts';

const EVERYTHING: Query = {
  links: 'all',
  addresses: 'all',
  routes: { families: [4, 6] },
  neighbours: NAMES,
  fdb: NAMES,
  sysctls: KEYS,
};

/** All but what the kernel makes by itself. */
const made: Owns = (item) => {
  if (item.type === 'link') return item.value.name !== 'lo';
  if (item.type === 'route') return item.value.protocol !== 2;
  return item.type !== 'address' || item.value.scope !== 'link';
};

function reach({ kernel, namespace }: Subject, want: State): string {
  const have = kernel.read(namespace, EVERYTHING);
  const steps = diff(have, want, made);
  const failures = kernel.apply(namespace, steps);
  const rest = diff(kernel.read(namespace, EVERYTHING), want, made);
  if (failures.length === 0 && rest.length === 0) return '';
  return `from:\n${printSteps(diff(EMPTY_STATE, have))}steps:\n${printSteps(steps)}failed:\n${failures.map(({ error }) => `${error.message}\n`).join('')}left to do:\n${printSteps(rest)}`;
}

/** A namespace that has never had an IPv4 address refuses gateways that are on the link by decree (fib_check_nh_v4_gw). */
function rememberIpv4({ kernel, namespace }: Subject): void {
  const address = add.address({ device: 'first', address: '10.1.0.1/24' });
  kernel.apply(namespace, [bridge('first'), address, remove.link({ name: 'first', kind: 'bridge' })]);
}

/** Runs `runs` random walks of up to four states each. */
export function kernelStates(
  name: string,
  setup: Setup,
  runs: number,
  more: { readonly endOnFailure?: boolean } = {},
): void {
  t.test(`${name}: from any state to any other`, async (t) => {
    const subject = setup();
    t.teardown(() => subject.close());
    rememberIpv4(subject);
    const walk = fc.array(state(subject.other), { minLength: 2, maxLength: 4 });
    const check = fc.property(walk, (states) => {
      for (const want of [EMPTY_STATE, ...states]) {
        const wrong = reach(subject, want);
        if (wrong !== '') throw new Error(wrong);
      }
    });
    fc.assert(check, { seed, numRuns: runs, ...more });
    t.pass(`${runs} walks`);
  });
}
