// The policy source of a cluster: Pods, Namespaces and NetworkPolicies as the API server tells them. A state is told when all
// three are known, and after each change of any of them.

import { hasCode, NetError } from '../../model/errors.ts';
import { type Collection, type KubeClient, NETWORK_POLICIES } from '../kube/client.ts';
import { type KubeEvent, type KubeEvents, kubeEvents } from '../kube/events.ts';
import { type KubeObject, type ListWatchTimes, listWatch, type Objects as Named } from '../kube/list-watch.ts';
import { NAMESPACE, POD } from '../kube/messages.ts';
import { latest } from '../subnet/latest.ts';
import type { Namespace, Pod, Policy } from './objects.ts';
import { parseNamespace, parsePod } from './parse-pod.ts';
import { parsePolicy } from './parse-policy.ts';
import { podSharing } from './sharing.ts';
import type { PolicyListener, PolicySource } from './source.ts';

interface Known {
  readonly pods: Named<Pod>;
  readonly namespaces: Named<Namespace>;
  readonly policies: Named<Policy>;
}

export interface KubeSourceOptions {
  readonly client: KubeClient;
  /** Told that Events can't be written. */
  readonly report: (trouble: unknown) => void;
  /** Other times, for tests. */
  readonly times?: ListWatchTimes | undefined;
}

/** The API server's objects. */
export function kubePolicySource({ client, report, times }: KubeSourceOptions): PolicySource {
  let events: KubeEvents | undefined;
  return {
    title: 'API server',
    async watch(listener, signal) {
      const following = follower(client, listener, signal, times);
      const share = podSharing();
      await Promise.all([
        following('pods', { path: '/api/v1/pods', message: POD }, (value, subject) => share(parsePod(value, subject))),
        following('namespaces', { path: '/api/v1/namespaces', message: NAMESPACE }, parseNamespace),
        following('policies', NETWORK_POLICIES, parsePolicy),
      ]);
      events?.close();
      client.close();
    },
    async find({ namespace, name }, signal) {
      const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
      try {
        return parsePod(await client.get(path, {}, signal), `Pod ${namespace}/${name}`);
      } catch (error) {
        if (hasCode(error, 'not-in-kube')) return undefined;
        throw error;
      }
    },
    tellInvalid(policy, node) {
      if (node === undefined) return;
      events ??= kubeEvents(client, node, report);
      events.tell(eventOf(policy));
    },
  };
}

const eventOf = ({ namespace, name, uid = '', invalid = '' }: Policy): KubeEvent => ({
  type: 'Warning',
  reason: 'PolicyInvalid',
  message: `${invalid}; it isolates the pods it selects, and what isn't understood allows nothing`,
  about: { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', namespace, name, uid },
});

/** A function that follows one kind of object until the signal aborts. */
function follower(
  client: KubeClient,
  { onObjects, onTrouble }: PolicyListener,
  signal: AbortSignal,
  times: ListWatchTimes | undefined,
) {
  const known: Partial<Known> = {};
  const troubles = new Map<keyof Known, unknown>();
  let due = false;

  function tell(): void {
    due = false;
    const { pods, namespaces, policies } = known;
    if (signal.aborted || pods === undefined || namespaces === undefined || policies === undefined) return;
    onObjects({ pods: [...pods.values()], namespaces: [...namespaces.values()], policies: [...policies.values()] });
  }

  /** What came in one turn, of whatever kinds, is told as one state. */
  function tellSoon(): void {
    if (!due) setImmediate(tell);
    due = true;
  }

  return async <K extends keyof Known>(
    kind: K,
    of: Collection,
    parse: (value: unknown, subject: string) => Known[K] extends Named<infer T> ? T : never,
  ): Promise<void> => {
    const trouble = (error: unknown) => {
      troubles.set(kind, error);
      onTrouble(error);
    };
    const strip = (object: KubeObject) => understood(object, of.path, parse, trouble);
    for await (const objects of latest((stop) => listWatch(client, { ...of, strip }, stop, trouble, times), signal)) {
      known[kind] = objects as Known[K];
      troubles.delete(kind);
      onTrouble([...troubles.values()][0]);
      tellSoon();
    }
  };
}

/** What the API server has accepted and we can't understand is of a later version: told, and left out. */
function understood<T>(
  object: KubeObject,
  path: string,
  parse: (value: unknown, subject: string) => T,
  report: (trouble: unknown) => void,
): T | undefined {
  const { namespace, name } = object.metadata;
  try {
    return parse(object, `${path} ${namespace === undefined ? name : `${namespace}/${name}`}`);
  } catch (error) {
    if (!(error instanceof NetError)) throw error;
    report(error);
    return undefined;
  }
}
