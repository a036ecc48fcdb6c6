// NetworkPolicy from its source, with what it stands on.

import type { Kernel } from '../../kernel/kernel.ts';
import { systemClock } from '../clock.ts';
import { recordDirectories } from '../cni/records.ts';
import type { PolicyConfig } from '../config.ts';
import { openClient } from '../kube/client.ts';
import { credentialsReader } from '../kube/credentials.ts';
import type { Log } from '../log.ts';
import { readAttached } from './attached.ts';
import { directorySource } from './directory.ts';
import { createPolicyService, type PolicyService } from './enforce.ts';
import { kubePolicySource } from './kube.ts';
import type { PolicySource } from './source.ts';

export interface PolicyOptions extends PolicyConfig {
  readonly kernel: Kernel;
  readonly log: Log;
}

/** Reads and enforces nothing before it is run. */
export const openPolicy = ({ source, ...options }: PolicyOptions): PolicyService =>
  createPolicyService({
    ...options,
    clock: systemClock,
    source: openSource(source),
    readAttached: () => readAttached(recordDirectories().all()),
  });

const openSource = (source: PolicyConfig['source']): PolicySource =>
  'kube' in source
    ? kubePolicySource(openClient(credentialsReader(source.kube)))
    : directorySource(source.directory, systemClock);
