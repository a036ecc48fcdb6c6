// Bandwidth, the kernel's side: puts the buckets of a pod in place, compares them with their plan, takes them away.

import { type Kernel, throwFirst } from '../kernel/kernel.ts';
import { diff } from '../model/diff.ts';
import { hasErrno, NetError } from '../model/errors.ts';
import { EMPTY_STATE, type State } from '../model/state.ts';
import { printStep, type Step } from '../model/steps.ts';

/** What of the host the plan speaks of. */
const readShaping = (kernel: Kernel, { links, qdiscs }: State): State =>
  kernel.read(kernel.host, {
    links: links.map(({ name }) => name),
    qdiscs: [...new Set(qdiscs.map(({ device }) => device))],
  });

function stepsTo(kernel: Kernel, want: State): Step[] {
  const have = readShaping(kernel, want);
  const foreign = have.links.find(({ kind }) => kind !== 'ifb');
  if (foreign === undefined) return diff(have, want);
  throw new NetError('foreign-object', `"${foreign.name}" already exists but is not an ifb`, { subject: foreign.name });
}

/** Brings host and device to the plan. @throws NetError foreign-object, kernel */
export const shape = (kernel: Kernel, want: State): void =>
  throwFirst(kernel.apply(kernel.host, stepsTo(kernel, want)));

/** The same where the host's end has just been made: looks first only if the other device is there already. */
export function shapeNew(kernel: Kernel, want: State): void {
  const steps = diff(EMPTY_STATE, want);
  const isLink = ({ item }: Step) => item.type === 'link';
  const failures = kernel.apply(kernel.host, steps.filter(isLink));
  const isThere = failures.some(({ error }) => hasErrno(error, 'EEXIST'));
  if (!isThere) throwFirst(failures);
  const rest = isThere ? stepsTo(kernel, want) : steps.filter((step) => !isLink(step));
  throwFirst(kernel.apply(kernel.host, rest));
}

/** What is missing of the plan, in words for CHECK. @throws NetError foreign-object, kernel */
export const shapingDifferences = (kernel: Kernel, want: State): string[] =>
  stepsTo(kernel, want).map((step) => `missing: ${printStep(step)}`);
