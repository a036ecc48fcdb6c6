// The plugin's part of the agent's table `inet flannel`, pure: chains that never change, whose names begin with "cni-" as
// no owner key of the agent does, and elements of their sets, which are all that an attachment adds. Its other tables are
// made in the same way.

import type { Chain, NftCommand, NftSet, Table, Transaction } from '../model/ruleset.ts';

export const TABLE = { family: 'inet', name: 'flannel' } as const;

export const transaction = (
  commands: readonly NftCommand[],
  { family, name }: Pick<Table, 'family' | 'name'> = TABLE,
): Transaction => ({ family, table: name, commands });

/** Nothing for no elements. */
export const elements = (verb: 'add' | 'delete', set: NftSet, texts: readonly string[]): NftCommand[] =>
  texts.length === 0 ? [] : [{ verb, type: 'element', set, elements: texts }];

/** Only the elements: all it takes once the chains are there. Adding what is there already changes nothing. */
export const addElements = (table: Table): Transaction => transaction(allElements(table), table);

const allElements = ({ sets }: Table): NftCommand[] => sets.flatMap((set) => elements('add', set, set.elements));

/**
 * Sets and chains without elements, from whatever there is. Chains are flushed and filled, so that two processes doing
 * this at once leave one set of rules.
 */
export const declaration = ({ chains, sets }: Table): NftCommand[] => [
  { verb: 'add', type: 'table' },
  ...sets.map((set) => ({ verb: 'add', type: 'set', set }) as const),
  ...chains.flatMap((chain): NftCommand[] => [
    { verb: 'add', type: 'chain', chain },
    { verb: 'flush', type: 'chain', chain },
  ]),
  ...chains.flatMap(({ name, rules }) =>
    rules.map((rule) => ({ verb: 'add', type: 'rule', chain: name, rule }) as const),
  ),
];

/** Chains, sets and elements from whatever there is, where no element can be in the way of another. */
export const completion = (want: Table): Transaction => transaction([...declaration(want), ...allElements(want)], want);

/** The chains whose rules aren't there as wanted. */
export const brokenChains = (have: Table | undefined, want: Table): Chain[] =>
  want.chains.filter(({ name, rules }) => {
    const there = have?.chains.find((chain) => chain.name === name);
    return there?.rules.join('\n') !== rules.join('\n');
  });

/** The sets with those of their elements that aren't there. */
export const missingElements = (have: Table | undefined, want: Table): NftSet[] =>
  want.sets.map((set) => {
    const present = new Set(have?.sets.find(({ name }) => name === set.name)?.elements);
    return { ...set, elements: set.elements.filter((each) => !present.has(each)) };
  });

/** What of the wanted table isn't there, in words for CHECK. */
export function missingFrom(have: Table | undefined, want: Table): string[] {
  if (have === undefined) return [`nft table ${want.family} ${want.name}`];
  return [
    ...brokenChains(have, want).map(({ name }) => `the rules of nft chain ${name}`),
    ...missingElements(have, want).flatMap((set) => set.elements.map((each) => `${each} in nft set ${set.name}`)),
  ];
}
