// What the cases about tables are written with. Tables are those of the host's namespace.

import type { Test } from 'tap';
import type { BaseChain, NftCommand, NftSet, Rule, Table } from '../../model/ruleset.ts';
import type { Case, Subject } from './kernel-subject.ts';

export const TABLE = 'flannel-suite';
export const FORWARD: BaseChain = { type: 'filter', hook: 'forward', priority: 'filter', policy: 'accept' };

export const create: NftCommand = { verb: 'add', type: 'table' };
export const drop: NftCommand = { verb: 'delete', type: 'table' };
export const chain = (name: string, base?: BaseChain): NftCommand => ({
  verb: 'add',
  type: 'chain',
  chain: { name, base },
});
export const dropChain = (name: string): NftCommand => ({ verb: 'delete', type: 'chain', chain: { name } });
export const flush = (name: string): NftCommand => ({ verb: 'flush', type: 'chain', chain: { name } });
export const rule = (name: string, text: string): NftCommand => ({
  verb: 'add',
  type: 'rule',
  chain: name,
  rule: text as Rule,
});

type Head = Omit<NftSet, 'elements'>;
export const ADDRESSES: Head = { name: 's', type: 'ipv4_addr' };
export const VERDICTS: Head = { name: 'm', type: 'ipv4_addr', gives: 'verdict' };
export const SUBNETS: Head = { name: 'i', type: 'ipv4_addr', flags: ['interval'] };
export const PORTS: Head = { name: 'p', type: 'inet_proto . inet_service', gives: 'ipv4_addr . inet_service' };

export const declare = (head: Head): NftCommand => ({ verb: 'add', type: 'set', set: head });
export const dropSet = (head: Head): NftCommand => ({ verb: 'delete', type: 'set', set: head });
export const flushSet = (head: Head): NftCommand => ({ verb: 'flush', type: 'set', set: head });
export const put = (head: Head, ...elements: string[]): NftCommand => ({
  verb: 'add',
  type: 'element',
  set: head,
  elements,
});
export const take = (head: Head, ...elements: string[]): NftCommand => ({
  verb: 'delete',
  type: 'element',
  set: head,
  elements,
});

export const table = ({ kernel }: Subject): Table | undefined => kernel.readTable('inet', TABLE);

/** The table's contents in one form: elements sorted, since nft lists them in the order of its hash. */
export function contents(s: Subject): unknown {
  const found = table(s);
  return (
    found && {
      chains: found.chains,
      sets: found.sets.map(({ elements, ...head }) => ({ ...head, elements: [...elements].sort() })),
    }
  );
}

/** Commits each transaction and compares the errnos; a refused one must change nothing. */
export function transactions(
  t: Test,
  s: Subject,
  lines: readonly (readonly [string, string, ...NftCommand[]])[],
): void {
  for (const [title, expected, ...commands] of lines) {
    const before = contents(s);
    let answer = 'ok';
    try {
      s.kernel.commit({ family: 'inet', table: TABLE, commands });
    } catch (error) {
      const { code, errno, subject } = error as { code?: string; errno?: string; subject?: string };
      answer = code === 'kernel' && subject === TABLE ? (errno ?? 'refused') : `incomplete failure: ${String(error)}`;
      t.strictSame(contents(s), before, `${title}: nothing changed`);
    }
    t.equal(answer, expected, title);
  }
}

/** Runs the case on a table that exists and is empty, and takes it away. */
export const fresh =
  (run: Case): Case =>
  async (t, s) => {
    s.kernel.commit({ family: 'inet', table: TABLE, commands: [create] });
    t.teardown(() => s.kernel.commit({ family: 'inet', table: TABLE, commands: [create, drop] }));
    await run(t, s);
  };
