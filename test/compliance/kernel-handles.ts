// Rules of anybody's tables, by the numbers that nft gives them.

import type { NftCommand, Rule } from '../../model/ruleset.ts';
import { chain, FORWARD, fresh, rule, TABLE, transactions } from './kernel-nft.ts';
import type { Case, Subject } from './kernel-subject.ts';

const insert = (name: string, text: string): NftCommand => ({
  verb: 'insert',
  type: 'rule',
  chain: name,
  rule: text as Rule,
});
const take = (name: string, handle: number): NftCommand => ({ verb: 'delete', type: 'rule', chain: name, handle });

const read = ({ kernel }: Subject, name = 'a') => kernel.readChain({ family: 'inet', table: TABLE, name });
const texts = (s: Subject) => read(s)?.map(({ text }) => text);
const numberOf = (s: Subject, text: string) => read(s)?.find((each) => each.text === text)?.handle ?? 0;

export const HANDLE_CASES: Readonly<Record<string, Case>> = {
  'chains of all tables are listed': fresh((t, s) => {
    transactions(t, s, [['two chains', 'ok', chain('a', { ...FORWARD, policy: 'drop' }), chain('b')]]);
    const ours = s.kernel.listChains().filter(({ table }) => table === TABLE);
    t.match(ours, [
      { family: 'inet', table: TABLE, name: 'a', base: { ...FORWARD, policy: 'drop' } },
      { family: 'inet', table: TABLE, name: 'b', base: undefined },
    ]);
    t.ok(ours.every(({ handle }) => Number.isInteger(handle) && handle > 0));
  }),

  'rules come first and go by their numbers': fresh((t, s) => {
    transactions(t, s, [
      ['fill', 'ok', chain('a'), rule('a', 'ip saddr 10.0.0.1 counter packets 0 bytes 0 accept')],
      ['first', 'ok', insert('a', 'ip daddr 10.0.0.1 accept comment "x # handle 1"'), insert('a', 'drop')],
      ['twice', 'ok', rule('a', 'drop')],
    ]);
    t.strictSame(texts(s), [
      'drop',
      'ip daddr 10.0.0.1 accept comment "x # handle 1"',
      'ip saddr 10.0.0.1 counter accept',
      'drop',
    ]);
    const numbers = read(s)?.map(({ handle }) => handle);
    t.equal(new Set(numbers).size, 4, 'a number each');
    const last = numbers?.at(-1) as number;
    transactions(t, s, [
      ['by number', 'ok', take('a', numberOf(s, 'ip saddr 10.0.0.1 counter accept')), take('a', last)],
      ['what is gone', 'ENOENT', take('a', last)],
      ['into no chain', 'ENOENT', insert('nope', 'accept')],
    ]);
    t.strictSame(texts(s), ['drop', 'ip daddr 10.0.0.1 accept comment "x # handle 1"']);
    t.equal(read(s, 'nope'), undefined);
    t.equal(s.kernel.readChain({ family: 'inet', table: 'nope', name: 'a' }), undefined);
  }),
};
