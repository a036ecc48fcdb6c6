// The fake and the real kernel side by side: whatever steps they are given, sensible or not, they give the same answers
// and the same readings, step by step.

import fc from 'fast-check';
import t from 'tap';
import type { Query } from '../../kernel/kernel.ts';
import { printStep, type Step } from '../../model/steps.ts';
import { seed } from '../support/seed.ts';
import { DEVICE_KEYS, KEYS, OUTWARD, step } from './kernel-random-steps.ts';
import { type Setup, type Subject, sysctl } from './kernel-subject.ts';

const EVERYTHING: Query = {
  links: 'all',
  addresses: 'all',
  routes: { families: [4, 6] },
  neighbours: OUTWARD,
  fdb: OUTWARD,
  sysctls: [...KEYS, ...DEVICE_KEYS],
};

/** A value as text, keys in one order. */
const line = (value: unknown): string =>
  JSON.stringify(value, (_key, inner) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

/** What can be compared: not indexes and made-up MACs, nor what the real kernel does in its own time. */
function reading({ kernel, namespace }: Subject): string[] {
  const { links, addresses, routes, neighbours, fdb, sysctls } = kernel.read(namespace, EVERYTHING);
  return [
    ...links.map(({ index, peerIndex, operational, mac, ...rest }) =>
      line({ ...rest, mac: /^0[02]:/.test(mac ?? '') ? mac : 'random' }),
    ),
    ...addresses.filter(({ scope }) => scope !== 'link').map((value) => line(value)),
    ...routes.filter(({ destination }) => destination !== ('fe80::/64' as string)).map((value) => line(value)),
    ...[...neighbours, ...fdb, ...sysctls].map((value) => line(value)),
  ].sort();
}

/** The answer to a step and what there is after it. */
function answer(subject: Subject, each: Step): { errno: string; after: string[] } {
  const [failure] = subject.kernel.apply(subject.namespace, [each]);
  return {
    errno: failure === undefined ? 'ok' : `${failure.error.errno} ${failure.error.subject}`,
    after: reading(subject),
  };
}

const difference = (a: readonly string[], b: readonly string[]): string =>
  a
    .filter((line) => !b.includes(line))
    .map((line) => `  ${line}\n`)
    .join('');

/** Runs `runs` random walks of steps on both, each in fresh namespaces. */
export function kernelTwins(fake: Setup, real: Setup, runs: number): void {
  t.test('the fake and the real kernel, step by step', async (t) => {
    const walk = fc.property(fc.array(step, { minLength: 20, maxLength: 60 }), (steps) => {
      const twins = [fake(), real()] as const;
      try {
        const done: string[] = [];
        for (const each of [
          sysctl('net/ipv4/conf/all/forwarding', '0'),
          sysctl('net/ipv4/conf/all/promote_secondaries', '0'),
          ...steps,
        ]) {
          const [expected, found] = twins.map((subject) => answer(subject, each)) as [
            ReturnType<typeof answer>,
            ReturnType<typeof answer>,
          ];
          done.push(`${printStep(each)} => ${found.errno}\n`);
          if (expected.errno === found.errno && expected.after.join() === found.after.join()) continue;
          const lost = difference(expected.after, found.after);
          const surplus = difference(found.after, expected.after);
          throw new Error(`${done.join('')}fake: ${expected.errno}\nonly fake:\n${lost}only real:\n${surplus}`);
        }
      } finally {
        for (const subject of twins) subject.close();
      }
    });
    fc.assert(walk, { seed, numRuns: runs });
    t.pass(`${runs} walks`);
  });
}
