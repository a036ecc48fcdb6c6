// The name of the node that this is.

import { NetError } from '../../model/errors.ts';
import type { KubeClient } from './client.ts';
import type { NodeChoice } from './options.ts';

/**
 * The one that was named, or that the pod runs on, which the API server is asked for.
 * @throws NetError kube-unreachable, kube-refused, not-in-kube: no such pod, or it has no node yet
 */
export async function nodeName(choice: NodeChoice, client: KubeClient, signal: AbortSignal): Promise<string> {
  if ('node' in choice) return choice.node;
  const { namespace, pod } = choice;
  const found = (await client.get(`/api/v1/namespaces/${namespace}/pods/${pod}`, {}, signal)) as {
    spec?: { nodeName?: string };
  };
  if (found.spec?.nodeName) return found.spec.nodeName;
  throw new NetError('not-in-kube', `pod ${namespace}/${pod} has no node`, { subject: pod });
}
