// How much longer than on an idle machine things may take now.

import { availableParallelism, loadavg } from 'node:os';

/** 1 or more: the processes that want to run, for each processor. */
export const patience = (): number => Math.max(1, (loadavg()[0] as number) / availableParallelism());
