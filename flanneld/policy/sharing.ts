// One value for all that say the same, for as long as somebody has it: pods of one workload share labels and ports, which are
// most of what is kept of a pod.

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

/** A function that makes pods share what they have in common. */
export function podSharing(): (pod: Pod) => Pod {
  const labels = sharing<Labels>();
  const ports = sharing<readonly NamedPort[]>();
  return (pod) => ({
    ...pod,
    labels: labels(JSON.stringify([...pod.labels]), pod.labels),
    ports: ports(JSON.stringify(pod.ports), pod.ports),
  });
}
