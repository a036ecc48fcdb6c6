// NetworkPolicy from a directory of manifests, with what it stands on.

import type { Kernel } from '../../kernel/kernel.ts';
import { listenToLog } from '../../kernel/packet-log.ts';
import { openSetCounters } from '../../kernel/set-counters.ts';
import { systemClock } from '../clock.ts';
import { recordDirectories } from '../cni/records.ts';
import type { PolicyConfig } from '../config.ts';
import type { Log } from '../log.ts';
import { readAttached } from './attached.ts';
import { directorySource } from './directory.ts';
import { createPolicyService, type PolicyService } from './enforce.ts';

export interface DirectoryPolicyOptions extends PolicyConfig {
  readonly kernel: Kernel;
  readonly log: Log;
}

/** Reads and enforces nothing before it is run. */
export const openDirectoryPolicy = ({ directory, ...options }: DirectoryPolicyOptions): PolicyService =>
  createPolicyService({
    ...options,
    listenToLog,
    readCounters: openSetCounters().read,
    clock: systemClock,
    source: directorySource(directory, systemClock),
    readAttached: () => readAttached(recordDirectories().all()),
  });
