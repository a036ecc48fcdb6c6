// NetworkPolicy from a directory of manifests, with what it stands on.

import { createSourceGuard } from '../../cni-plugin/source-guard.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { listenToLog } from '../../kernel/packet-log.ts';
import { openSetCounters } from '../../kernel/set-counters.ts';
import { systemClock } from '../clock.ts';
import { recordDirectories } from '../cni/records.ts';
import type { PolicyConfig } from '../config.ts';
import type { Log } from '../log.ts';
import { attachedIn, readRecords } from './attached.ts';
import { directorySource } from './directory.ts';
import { createPolicyService, type PolicyService } from './enforce.ts';

export interface DirectoryPolicyOptions extends PolicyConfig {
  readonly kernel: Kernel;
  readonly bootId: string;
  readonly log: Log;
}

/** Reads and enforces nothing before it is run. */
export function openDirectoryPolicy({ directory, bootId, ...options }: DirectoryPolicyOptions): PolicyService {
  const readAll = () => readRecords(recordDirectories().all());
  return createPolicyService({
    ...options,
    listenToLog,
    readCounters: openSetCounters().read,
    clock: systemClock,
    source: directorySource(directory, systemClock),
    sources: createSourceGuard({ kernel: options.kernel, bootId, readRecords: readAll }),
    readAttached: () => attachedIn(readAll()),
  });
}
