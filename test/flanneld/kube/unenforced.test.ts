// An agent without a policy source says so where the cluster has policies, and only there.

import t, { type Test } from 'tap';
import { tellUnenforced } from '../../../flanneld/kube/unenforced.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';

/** What is logged when the server answers so, and what it was asked. */
async function told(t: Test, status: number, items: readonly object[]) {
  const server = await startFakeApiServer();
  t.teardown(() => server.close());
  server.refuse = () => ({ status, body: { kind: 'NetworkPolicyList', metadata: {}, items } });
  const lines: string[] = [];
  const write = (_: object, line: string) => void lines.push(line);
  const access = { server: server.url, kubeconfig: undefined, serviceAccount: undefined };
  await tellUnenforced(access, { debug: write, info: write, warn: write, error: write });
  return { lines, requests: server.requests };
}

t.test('there are policies: one request for one of them, one line with what to do', async (t) => {
  const { lines, requests } = await told(t, 200, [{ metadata: { name: 'deny', namespace: 'x' } }]);
  t.match(lines, [/NetworkPolicies .* enforces none: .*--policy-source=kube/]);
  t.same(requests, ['GET /apis/networking.k8s.io/v1/networkpolicies?limit=1']);
});

t.test('there are none, or nobody may know: nothing is said, and nothing fails', async (t) => {
  for (const status of [200, 403, 500]) t.same((await told(t, status, [])).lines, [], String(status));
});
