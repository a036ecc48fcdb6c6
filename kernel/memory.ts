// Memory that the process has no more use for, given back to the kernel.

import { existsSync, readFileSync } from 'node:fs';
import { madvise, mallocTrim } from './ffi.ts';

/** asm-generic/mman-common.h: the pages leave the process; what is read again comes from the file. */
const MADV_DONTNEED = 4;

/** Not every kernel has it (CONFIG_PROC_PAGE_MONITOR). */
const MAPPINGS = '/proc/self/smaps';

/** A mapping of a file that can't be written, as it stands there (proc(5)). */
const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]/;
/** It has no page of its own, not even a swapped one: what was relocated in it would be lost. */
const CLEAN = /^Anonymous: +0 kB$[\s\S]*^Swap: +0 kB$/m;

/**
 * What malloc has kept of what was freed, and pages of executables and libraries: most were used at the start alone. Those
 * stay in the page cache for as long as there is room, and return by themselves, in microseconds, when they are used again.
 */
export function giveBackMemory(): void {
  mallocTrim();
  if (!existsSync(MAPPINGS)) return;
  for (const mapping of readFileSync(MAPPINGS, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, first, end] = MAPPING.exec(mapping) ?? [];
    if (first === undefined || !CLEAN.test(mapping)) continue;
    const address = BigInt(`0x${first}`);
    madvise(address, BigInt(`0x${end}`) - address, MADV_DONTNEED);
  }
}
