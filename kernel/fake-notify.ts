// The fake kernel's notifications: what was asked for and done.

import type { Transaction } from '../model/ruleset.ts';
import type { Step } from '../model/steps.ts';
import type { Change } from './kernel.ts';

/** Who is told. */
export type Told = Set<(change: Change) => void>;

/** Tells the changes when the present call is over. */
export function tellLater(told: Told, changes: readonly Change[]): void {
  if (told.size === 0 || changes.length === 0) return;
  queueMicrotask(() => {
    for (const change of changes) for (const tell of told) tell(change);
  });
}

/** What a step that was taken changed. */
export function changesOf({ item }: Step): Change[] {
  switch (item.type) {
    case 'link':
      return [{ type: 'link', device: item.value.name }];
    case 'address':
    case 'neighbour':
      return [{ type: item.type, device: item.value.device }];
    case 'fdb':
      return [{ type: 'neighbour', device: item.value.device }];
    case 'route':
      return [{ type: 'route', destination: item.value.destination, device: item.value.device }];
    default:
      return [];
  }
}

/** What a transaction that was committed changed. `generation`: its number. */
export const ruleChangesOf = ({ table, commands }: Transaction, generation: number): Change[] => [
  ...commands.map((command): Change => ({ type: 'rules', table, part: partOf(command) })),
  { type: 'transaction', table, generation: generation & 0xffff },
];

function partOf(command: Transaction['commands'][number]): string | undefined {
  switch (command.type) {
    case 'table':
      return undefined;
    case 'chain':
      return command.chain.name;
    case 'rule':
      return command.chain;
    case 'set':
    case 'element':
      return command.set.name;
  }
}
