// What a kernel tells of changes: of the host's namespace, and of nothing else.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Change } from '../../kernel/kernel.ts';
import type { Step } from '../../model/steps.ts';
import { chain, create, drop, rule, TABLE } from './kernel-nft.ts';
import { add, type Case, pair, remove, replace, type Subject, set } from './kernel-subject.ts';

interface Heard {
  readonly changes: Change[];
  stop(): void;
}

function listen({ kernel }: Subject): Heard {
  const changes: Change[] = [];
  return { changes, stop: kernel.watch((change) => void changes.push(change)) };
}

async function until(t: Test, heard: Heard, expected: Change): Promise<void> {
  const found = () => heard.changes.some((change) => same(change, expected));
  for (let left = 300; left > 0 && !found(); left--) await sleep(10);
  t.ok(found(), JSON.stringify(expected), { heard: heard.changes });
}

const same = (a: Change, b: Change): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
const sorted = (change: Change) => Object.fromEntries(Object.entries(change).sort());

/** What each step makes known. */
const STEPS: readonly (readonly [Step, Change])[] = [
  [pair('note0', 'note1', 9)[0] as Step, { type: 'link', device: 'note0' }],
  [set('note1', { up: true }), { type: 'link', device: 'note1' }],
  [add.address({ device: 'note0', address: '10.77.0.1/24' }), { type: 'address', device: 'note0' }],
  [add.address({ device: 'note0', address: 'fd77::1/64', noDad: true }), { type: 'address', device: 'note0' }],
  [
    replace.neighbour({ device: 'note0', ip: '10.77.0.2', mac: '02:00:00:00:00:77' }),
    { type: 'neighbour', device: 'note0' },
  ],
  [
    replace.neighbour({ device: 'note0', ip: 'fd77::2', mac: '02:00:00:00:00:77' }),
    { type: 'neighbour', device: 'note0' },
  ],
  ...(['10.78.0.0/16', 'fd78::/64'] as const).flatMap((destination) => {
    const via = destination.includes(':') ? 'fd77::2' : '10.77.0.2';
    const told = { type: 'route', destination, device: 'note0' } as Change;
    return [add.route, remove.route].map((verb) => [verb({ destination, via, device: 'note0' }), told] as const);
  }),
  [remove.link({ name: 'note0', kind: 'veth' }), { type: 'link', device: 'note0' }],
];

export const NOTIFICATION_CASES: Readonly<Record<string, Case>> = {
  async 'every kind of thing in the host namespace'(t, s) {
    for (const [step, told] of STEPS) {
      const heard = listen(s);
      t.same(s.kernel.apply(s.kernel.host, [step]), []);
      t.same(heard.changes, [], 'not from inside the call');
      await until(t, heard, told);
      heard.stop();
    }
  },

  async 'rules, by table and chain'(t, s) {
    const heard = listen(s);
    s.kernel.commit({ family: 'inet', table: TABLE, commands: [create, chain('a'), rule('a', 'accept')] });
    await until(t, heard, { type: 'rules', table: TABLE, part: undefined });
    await until(t, heard, { type: 'rules', table: TABLE, part: 'a' });
    heard.changes.length = 0;
    s.kernel.commit({ family: 'inet', table: TABLE, commands: [drop] });
    await until(t, heard, { type: 'rules', table: TABLE, part: undefined });
    heard.stop();
  },

  async 'one transaction from another, by its number'(t, s) {
    const heard = listen(s);
    const commands = [create, chain('a'), rule('a', 'accept'), rule('a', 'drop')];
    s.kernel.commit({ family: 'inet', table: TABLE, commands });
    await s.kernel.commitAside({ family: 'inet', table: TABLE, commands: [drop] });
    await until(t, heard, { type: 'rules', table: TABLE, part: undefined });
    const numbers = () =>
      new Set(
        heard.changes.flatMap((change) =>
          change.type === 'transaction' && change.table === TABLE ? [change.generation] : [],
        ),
      );
    for (let looks = 0; looks < 200 && numbers().size < 2; looks++) await sleep(50);
    t.equal(numbers().size, 2);
    t.equal(s.kernel.readTable('inet', TABLE), undefined);
    await t.rejects(s.kernel.commitAside({ family: 'inet', table: TABLE, commands: [drop] }), {
      code: 'kernel',
      errno: 'ENOENT',
    });
    heard.stop();
  },

  async 'nothing of another namespace, of a failure, or after the end'(t, s) {
    const heard = listen(s);
    const ended = listen(s);
    ended.stop();
    ended.stop();
    s.kernel.apply(s.namespace, pair('veth0', 'veth1'));
    s.kernel.apply(s.kernel.host, [remove.link({ name: 'nothing', kind: 'veth' })]);
    await sleep(150);
    t.same(heard.changes, []);
    s.kernel.apply(s.kernel.host, [STEPS[0]?.[0] as Step]);
    await until(t, heard, { type: 'link', device: 'note0' });
    s.kernel.apply(s.kernel.host, [remove.link({ name: 'note0', kind: 'veth' })]);
    t.same(ended.changes, []);
    heard.stop();
  },
};
