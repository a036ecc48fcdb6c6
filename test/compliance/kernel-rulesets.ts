// From any table to any other in one transaction: what diffTable plans and commit does leaves nothing to do. Random tables
// over a few names, one after the other, whose rules and maps refer to each other.

import fc from 'fast-check';
import t from 'tap';
import type { Kernel } from '../../kernel/kernel.ts';
import {
  type BaseChain,
  type Chain,
  diffTable,
  type NftSet,
  printTable,
  printTransaction,
  type Rule,
  type Table,
} from '../../model/ruleset.ts';
import { seed } from '../support/seed.ts';
import type { Setup } from './kernel-subject.ts';

const NAME = 'flannel-random';
/** Chains by what they may be: hooked, called, or now this, now that. */
const CHAINS = ['hook-a', 'hook-b', 'any-a', 'any-b', 'call-a', 'call-b', 'call-c', 'call-d'];
/** Not ours: comes and goes by hand, is never touched. */
const FOREIGN = 'theirs';
const HOSTS = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
const SUBNETS = [
  ['10.0.0.0/24', '10.1.0.0/24'],
  ['10.0.0.0/16', '10.1.0.0/25', '10.1.0.128/25'],
  ['10.0.0.7', '10.0.1.0/24'],
];

const base: fc.Arbitrary<BaseChain> = fc.record({
  type: fc.constant('filter' as const),
  hook: fc.constantFrom('forward', 'input', 'postrouting'),
  priority: fc.constantFrom('filter', 'filter + 5', 'filter - 10'),
  policy: fc.constantFrom('accept', 'drop'),
});

const PLAIN = [
  'accept',
  'ip saddr 10.0.0.0/16 accept',
  'iifname "x{;\'" drop',
  'ip daddr 10.0.0.1 return comment "jump @nowhere"',
];

/** Chains call only those further down, so never in a circle, and never a hooked one. */
function chains(sets: readonly NftSet[]): fc.Arbitrary<Chain[]> {
  const hooked = (name: string) =>
    name.startsWith('hook')
      ? base
      : name.startsWith('any')
        ? fc.option(base, { nil: undefined })
        : fc.constant(undefined);
  const heads = fc
    .subarray(CHAINS)
    .chain((names) => fc.tuple(...names.map((name) => hooked(name).map((of) => ({ name, base: of })))));
  return heads.chain((all) =>
    fc.tuple(
      ...all.map((head) =>
        fc.subarray(rules(head.name, all, sets)).map((chosen) => ({ ...head, rules: chosen as Rule[] })),
      ),
    ),
  );
}

function rules(name: string, all: readonly Omit<Chain, 'rules'>[], sets: readonly NftSet[]): string[] {
  const called = all
    .filter((other) => other.base === undefined && CHAINS.indexOf(other.name) > CHAINS.indexOf(name))
    .map((other) => `jump ${other.name}`);
  // The map calls the last chains, so what they hold must not ask the map again.
  const asked = sets
    .filter((set) => set.gives !== 'verdict' || !name.startsWith('call'))
    .map((set) => (set.gives === 'verdict' ? `ip daddr vmap @${set.name}` : `ip saddr @${set.name} accept`));
  return [...PLAIN, ...called, ...asked.filter((rule) => !rule.includes('@ports'))];
}

const SETS: readonly fc.Arbitrary<NftSet>[] = [
  fc.subarray(HOSTS).map((elements) => ({ name: 'hosts', type: 'ipv4_addr', elements })),
  fc.subarray(HOSTS).map((elements) => ({ name: 'counts', type: 'ipv4_addr', counted: true, elements })),
  fc
    .constantFrom(...SUBNETS)
    .map((elements) => ({ name: 'subnets', type: 'ipv4_addr', flags: ['interval'], elements })),
  fc.record({ tcp: fc.constantFrom('10.0.0.1 . 8080', '10.0.0.2 . 8080'), udp: fc.boolean() }).map(({ tcp, udp }) => ({
    name: 'ports',
    type: 'inet_proto . inet_service',
    gives: 'ipv4_addr . inet_service',
    elements: [`tcp . 80 : ${tcp}`, ...(udp ? ['udp . 53 : 10.0.0.2 . 53'] : [])],
  })),
];

/** The map's verdicts are filled in when the chains are known. */
const verdicts = (all: readonly Chain[]): fc.Arbitrary<string[]> => {
  const targets = [
    'accept',
    ...all.filter(({ name, base }) => name.startsWith('call') && base === undefined).map(({ name }) => `jump ${name}`),
  ];
  return fc
    .tuple(
      ...HOSTS.map((host) =>
        fc.option(fc.constantFrom(...targets)).map((target) => (target === null ? [] : [`${host} : ${target}`])),
      ),
    )
    .map((found) => found.flat());
};

const table: fc.Arbitrary<Table> = fc
  .tuple(
    fc.subarray([...SETS]).chain((chosen) => fc.tuple(...chosen)),
    fc.boolean(),
  )
  .map(([sets, map]): NftSet[] =>
    map ? [...sets, { name: 'verdicts', type: 'ipv4_addr', gives: 'verdict', elements: [] }] : sets,
  )
  .chain((sets) => fc.tuple(chains(sets), fc.constant(sets)))
  .chain(([all, sets]) =>
    fc.tuple(
      fc.constant(all),
      fc.tuple(
        ...sets.map((set) =>
          set.name === 'verdicts' ? verdicts(all).map((elements) => ({ ...set, elements })) : fc.constant(set),
        ),
      ),
    ),
  )
  .map(([all, sets]) => ({ family: 'inet', name: NAME, chains: all, sets }));

const ours = (name: string): boolean => name !== FOREIGN;

function reach(kernel: Kernel, want: Table): string {
  const have = kernel.readTable('inet', NAME);
  const transaction = diffTable(have, want, ours);
  if (transaction === undefined) return '';
  const text = `from:\n${have ? printTable(have) : ''}transaction:\n${printTransaction(transaction)}`;
  try {
    kernel.commit(transaction);
  } catch (error) {
    return `${text}failed: ${(error as Error).message}`;
  }
  const found = kernel.readTable('inet', NAME);
  const rest = diffTable(found, want, ours);
  const foreign = found?.chains.some(({ name }) => name === FOREIGN) ?? false;
  if (rest !== undefined) return `${text}left to do:\n${printTransaction(rest)}`;
  return foreign ? '' : `${text}the foreign chain is gone`;
}

/** Runs `runs` random walks of up to five tables each. */
export function kernelRulesets(
  name: string,
  setup: Setup,
  runs: number,
  more: { readonly endOnFailure?: boolean } = {},
): void {
  t.test(`${name}: from any table to any other`, async (t) => {
    const { kernel, close } = setup();
    const drop = () =>
      kernel.commit({
        family: 'inet',
        table: NAME,
        commands: [
          { verb: 'add', type: 'table' },
          { verb: 'delete', type: 'table' },
        ],
      });
    t.teardown(() => {
      drop();
      close();
    });
    const walk = fc.property(fc.array(table, { minLength: 2, maxLength: 5 }), (tables) => {
      drop();
      kernel.commit({
        family: 'inet',
        table: NAME,
        commands: [
          { verb: 'add', type: 'table' },
          { verb: 'add', type: 'chain', chain: { name: FOREIGN } },
        ],
      });
      for (const want of tables) {
        const wrong = reach(kernel, want);
        if (wrong !== '') throw new Error(wrong);
      }
    });
    fc.assert(walk, { seed, numRuns: runs, ...more });
    t.pass(`${runs} walks`);
  });
}
