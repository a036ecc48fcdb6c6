// What of the rules every attachment needs, and finds in place nearly always. Whether it still is shows in one number, the
// generation of all rules, since whoever changes any of them increases it. Elements that attachments add and remove do so
// too: they are committed here, so that they aren't taken for a stranger's change.

import type { Kernel } from '../kernel/kernel.ts';
import type { Transaction } from '../model/ruleset.ts';
import type { Namespace } from '../model/state.ts';

/** By the host, whose object is the same for every view of a kernel. */
const found = new WeakMap<Namespace, { readonly what: string; readonly generation: number }>();

/** Puts it in place unless it is known to be. @throws what `put` throws; NetError kernel */
export function ensureInPlace(kernel: Kernel, what: string, put: () => void): void {
  const last = found.get(kernel.host);
  const generation = kernel.rulesGeneration();
  if (last?.what === what && last.generation === generation) return;
  put();
  note(kernel, what, generation);
}

/** Commits what leaves all that is in place as it is: elements of single attachments. @throws NetError kernel */
export function commitElements(kernel: Kernel, transaction: Transaction): void {
  const last = found.get(kernel.host);
  const isCurrent = last !== undefined && last.generation === kernel.rulesGeneration();
  kernel.commit(transaction);
  if (isCurrent) note(kernel, last.what, last.generation);
}

/** Any other transaction meanwhile makes the next attachment look again. */
function note(kernel: Kernel, what: string, before: number): void {
  const generation = kernel.rulesGeneration();
  if (generation === before || generation === before + 1) found.set(kernel.host, { what, generation });
}
