// Pods that say the same have the same labels and ports.

import t from 'tap';
import { parsePod } from '../../../flanneld/policy/parse-pod.ts';
import { podSharing, textSharing } from '../../../flanneld/policy/sharing.ts';

const pod = (name: string, app: string) =>
  parsePod(
    {
      metadata: { name, namespace: 'a', labels: { app, tier: 'x' } },
      spec: { containers: [{ ports: [{ name: 'http', containerPort: 80 }] }] },
    },
    name,
  );

t.test('what is equal is the same', async (t) => {
  const share = podSharing();
  const [one, two, other] = [share(pod('one', 'web')), share(pod('two', 'web')), share(pod('three', 'db'))];
  t.strictSame([one, two, other], [pod('one', 'web'), pod('two', 'web'), pod('three', 'db')], 'nothing is changed');
  t.equal(one.labels, two.labels);
  t.equal(one.ports, other.ports);
  t.not(one.labels, other.labels);
});

t.test('names that come and go are not kept for ever', async (t) => {
  const share = textSharing(2);
  for (const name of ['a', 'b', 'c', 'a', 'd']) t.equal(share(name), name);
});
