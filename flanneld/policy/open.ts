// NetworkPolicy from its source, with what it stands on.

import { createSourceGuard } from '../../cni-plugin/source-guard.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { describe } from '../../model/errors.ts';
import { listenToLog } from '../../kernel/packet-log.ts';
import { openSetCounters } from '../../kernel/set-counters.ts';
import { systemClock } from '../clock.ts';
import { recordDirectories } from '../cni/records.ts';
import type { PolicyConfig } from '../config.ts';
import { openClient } from '../kube/client.ts';
import { credentialsReader } from '../kube/credentials.ts';
import type { Log } from '../log.ts';
import { attachedIn, readRecords } from './attached.ts';
import { directorySource } from './directory.ts';
import { createPolicyService, type PolicyDeps, type PolicyService } from './enforce.ts';
import { kubePolicySource } from './kube.ts';
import type { PolicySource } from './source.ts';

export interface PolicyOptions extends PolicyConfig, Pick<PolicyDeps, 'onSettled'> {
  readonly kernel: Kernel;
  readonly bootId: string;
  readonly log: Log;
}

/** Reads and enforces nothing before it is run. */
export function openPolicy({ source, bootId, ...options }: PolicyOptions): PolicyService {
  const readAll = () => readRecords(recordDirectories().all());
  return createPolicyService({
    ...options,
    listenToLog,
    readCounters: openSetCounters().read,
    clock: systemClock,
    source: openSource(source, options.log),
    sources: createSourceGuard({ kernel: options.kernel, bootId, readRecords: readAll }),
    readAttached: () => attachedIn(readAll()),
  });
}

function openSource(source: PolicyConfig['source'], log: Log): PolicySource {
  if ('directory' in source) return directorySource(source.directory, systemClock);
  const report = (trouble: unknown) => log.warn({}, describe(trouble));
  return kubePolicySource({ client: openClient(credentialsReader(source.kube)), report });
}
