// Pods at their places: after any changes as if all had been looked at anew, and what a change isn't about is the same object.

import * as fc from 'fast-check';
import t from 'tap';
import type { Pod } from '../../../flanneld/policy/objects.ts';
import { type Attached, type Placed, place } from '../../../flanneld/policy/placed.ts';
import { ip } from '../../../model/ip.ts';
import { count } from '../../support/count.ts';
import { seed } from '../../support/seed.ts';

const address = fc.integer({ min: 1, max: 6 }).map((last) => ip(`10.5.1.${last}`));
const name = fc.record({
  namespace: fc.constantFrom('x', 'y', 'z'),
  name: fc.constantFrom('a', 'b', 'c'),
  uid: fc.constantFrom(undefined, '1', '2'),
});
const pod: fc.Arbitrary<Pod> = fc
  .tuple(
    name,
    fc.record({
      node: fc.constantFrom('here', 'there', undefined),
      hostNetwork: fc.nat(9).map((chance) => chance === 0),
      finished: fc.nat(5).map((chance) => chance === 0),
      addresses: fc.uniqueArray(address, { maxLength: 2 }),
    }),
  )
  .map(([own, more]) => ({ ...own, ...more, labels: new Map(), ports: [] }));
const attached: fc.Arbitrary<Attached> = fc
  .tuple(name, fc.uniqueArray(address, { minLength: 1, maxLength: 2 }))
  .map(([own, addresses]) => ({ ...own, addresses }));
const change = fc.oneof(
  fc.record({ tell: pod }),
  fc.record({ forget: name }),
  fc.record({ attach: attached }),
  fc.record({ detach: fc.nat(5) }),
  fc.constant({ reverse: true }),
);

/** As text, without order. */
function textOf({ places, endpoints }: Placed): string {
  const sorted = (items: readonly unknown[]) => items.map((item) => JSON.stringify(item)).sort();
  const pods = [...places].map(([namespace, { pods }]) => [namespace, ...sorted(pods)]);
  return JSON.stringify([sorted(pods.filter(({ length }) => length > 1)), sorted(endpoints)]);
}

t.test('from any state to any other', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 12 }), (turns) => {
        let told = new Map<string, Pod>();
        let held: Attached[] = [];
        let placed: Placed | undefined;
        return turns.every((turn) => {
          for (const step of turn) {
            if ('tell' in step) told.set(`${step.tell.namespace}/${step.tell.name}`, step.tell);
            else if ('forget' in step) told.delete(`${step.forget.namespace}/${step.forget.name}`);
            else if ('attach' in step) held = [...held, step.attach];
            else if ('detach' in step) held = held.filter((_, at) => at !== step.detach);
            else told = new Map([...told].reverse());
          }
          placed = place([...told.values()], held, 'here', placed);
          return textOf(placed) === textOf(place([...told.values()], held, 'here', undefined));
        });
      }),
      { seed, numRuns: count(4000) },
    ),
  );
});

const podOf = (namespace: string, name: string, addresses: string[] = []): Pod => ({
  namespace,
  name,
  labels: new Map(),
  hostNetwork: false,
  finished: false,
  addresses: addresses.map(ip),
  ports: [],
});

t.test('what a change isn’t about is the same', async (t) => {
  const pods = [podOf('x', 'a', ['10.5.1.2']), podOf('x', 'b'), podOf('y', 'a', ['10.5.1.3'])];
  const first = place(pods, [], 'here', undefined);
  t.equal(place([...pods], [], 'here', first), first);
  const second = place([...pods.with(0, podOf('x', 'a')), podOf('z', 'a')], [], 'here', first);
  t.equal(second.places.get('y'), first.places.get('y'));
  t.strictSame(
    second.places
      .get('x')
      ?.pods.map(({ name, addresses }) => [name, addresses])
      .sort(),
    [
      ['a', []],
      ['b', []],
    ],
  );
  const attached = [{ namespace: 'z', name: 'a', addresses: [ip('10.5.1.3')] }];
  const third = place(second.told, attached, 'here', second);
  t.equal(third.places.get('x'), second.places.get('x'));
  t.strictSame(third.places.get('y')?.pods[0]?.addresses, [], 'its address is another’s by now');
  t.equal(place(second.told, [], 'here', third).places.get('y')?.pods[0], pods[2], 'until it is not');
});
