// One value for all that say the same, for as long as somebody has it: pods of one workload share labels and ports, which are
// most of what is kept of a pod, and thousands of pods the names of namespaces and nodes.

import type { Labels, NamedPort, Pod } from './objects.ts';

/** A function that gives the value that was given first among those with the same text. */
function sharing<T extends object>(): (text: string, value: T) => T {
  const known = new Map<string, WeakRef<T>>();
  const ends = new FinalizationRegistry<string>((text) => {
    // Another one may have taken its place by now.
    if (known.get(text)?.deref() === undefined) known.delete(text);
  });
  return (text, value) => {
    const first = known.get(text)?.deref();
    if (first !== undefined) return first;
    known.set(text, new WeakRef(value));
    ends.register(value, text);
    return value;
  };
}

/** Names that are remembered to be shared: more than the nodes that a cluster can have. */
const MOST_NAMES = 20_000;

/** A function that gives the text that was given first among the same ones, as far as it remembers. */
export function textSharing(most = MOST_NAMES): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    const first = known.get(text);
    if (first !== undefined) return first;
    // Names of what is long gone are among them: who is still there comes again.
    if (known.size >= most) known.clear();
    known.set(text, text);
    return text;
  };
}

/** A function that makes pods share what they have in common. */
export function podSharing(): (pod: Pod) => Pod {
  const labels = sharing<Labels>();
  const ports = sharing<readonly NamedPort[]>();
  const name = textSharing();
  return (pod) => ({
    ...pod,
    namespace: name(pod.namespace),
    node: pod.node && name(pod.node),
    labels: labels(JSON.stringify([...pod.labels]), pod.labels),
    ports: ports(JSON.stringify(pod.ports), pod.ports),
  });
}
