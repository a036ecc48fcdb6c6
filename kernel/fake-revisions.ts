// The fake kernel's revisions: of its devices, by name, with what concerns all of them.

import type { Step } from '../model/steps.ts';

export interface FakeRevisions {
  /** Takes note of steps that were taken in the host's namespace. */
  note(steps: readonly Step[]): void;
  /** Undefined: a device that is gone. */
  of(name: string | undefined): number;
}

export function fakeRevisions(): FakeRevisions {
  const changed = new Map<string, number>();
  let serial = 0;
  let all = 0;
  return {
    note(steps) {
      for (const { item } of steps) {
        serial++;
        if (item.type === 'sysctl') all = serial;
        if (item.type === 'link') changed.set(item.value.name, serial);
        if (item.type === 'address') changed.set(item.value.device, serial);
      }
    },
    of: (name) => (name === undefined ? -1 : Math.max(all, changed.get(name) ?? 0)),
  };
}
