// Kubernetes as the agent's store, put together: credentials, client, the node's name, the subnet manager.

import type { AgentDeps } from '../agent-deps.ts';
import { openClient } from '../kube/client.ts';
import { credentialsReader } from '../kube/credentials.ts';
import { nodeName } from '../kube/node-name.ts';
import type { KubeConfig } from '../kube/options.ts';
import { openKube } from './kube.ts';

/** Whose identity is the node's name: there is nothing to keep on the host. */
export function kubeStore(
  kube: KubeConfig,
  report: (trouble: unknown) => void,
): Pick<AgentDeps, 'identity' | 'openManager'> {
  const client = () => openClient(credentialsReader(kube.access));
  return {
    identity: {
      isKept: () => true,
      async keep(signal) {
        const asking = client();
        try {
          return await nodeName(kube.node, asking, signal);
        } finally {
          asking.close();
        }
      },
    },
    openManager: (node) => openKube({ kube, client: client(), node, report }),
  };
}
