// NetworkPolicies in a cluster whose agent enforces none. An agent without a policy source asks once, when the node is set
// up, whether there are any: a list of one object, which the role allows in any case.

import type { Log } from '../log.ts';
import { NETWORK_POLICIES, openClient } from './client.ts';
import { credentialsReader } from './credentials.ts';
import type { KubeAccessConfig } from './options.ts';

const WAIT_MS = 30_000;

/** Logs that there are some. Never fails: where the question isn't answered, or not allowed, nothing is said. */
export async function tellUnenforced(access: KubeAccessConfig, log: Log): Promise<void> {
  const client = openClient(credentialsReader(access));
  const found: unknown[] = [];
  try {
    await client.list(NETWORK_POLICIES, { limit: 1 }, AbortSignal.timeout(WAIT_MS), (policy) => found.push(policy));
  } catch {
    return;
  } finally {
    client.close();
  }
  if (found.length === 0) return;
  log.warn(
    {},
    'the cluster has NetworkPolicies and this agent enforces none: start it with --policy-source=kube, unless another program enforces them',
  );
}
