// deploy/rbac.yml: with it everything works that the agent does with the API, and each verb is needed.

import t from 'tap';
import { type Node, until } from '../../examples/cluster/cluster.ts';
import { lacking, openStage, SINGLE } from './stage.ts';

const ROLE = '/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel';
const ACCOUNT = 'system:serviceaccount:kube-flannel:flannel';
const PROBE = `${import.meta.dirname}/verbs-probe.ts`;

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** As the API server's refusal names it. */
const refusal = (resource: string, verb: string) => new RegExp(`cannot ${verb} resource "${resource}"`);

t.test('the role', { skip: lacking(['kube-apiserver', 'kube-controller-manager']) }, async (t) => {
  const { cluster, plane } = await openStage(t, 1, SINGLE);
  const [node] = cluster.nodes as [Node];
  await plane.addNode('n1');
  await plane.podCidrs('n1');
  await plane.giveServiceAccount(node);
  await plane.call('POST', '/api/v1/namespaces/kube-flannel/pods', {
    metadata: { name: 'agent' },
    spec: { nodeName: 'n1', serviceAccountName: 'flannel', containers: [{ name: 'a', image: 'none' }] },
  });
  const { rules } = await plane.call<{ rules: Rule[] }>('GET', ROLE);
  const verbs = rules.flatMap(({ apiGroups: [group = ''], resources, verbs }) =>
    resources.flatMap((resource) => verbs.map((verb) => ({ group, resource, verb }))),
  );
  t.strictSame(verbs.map(({ resource, verb }) => `${resource} ${verb}`).sort(), [
    'events create',
    'events patch',
    'namespaces list',
    'namespaces watch',
    'networkpolicies list',
    'networkpolicies watch',
    'nodes get',
    'nodes list',
    'nodes watch',
    'nodes/status patch',
    'pods get',
    'pods list',
    'pods watch',
  ]);

  const allowed = async (group: string, resource: string, verb: string) => {
    const [name, subresource] = resource.split('/');
    const review = await plane.call<{ status: { allowed: boolean } }>(
      'POST',
      '/apis/authorization.k8s.io/v1/subjectaccessreviews',
      {
        spec: { user: ACCOUNT, resourceAttributes: { verb, group, resource: name, subresource, namespace: 'default' } },
      },
    );
    return review.status.allowed;
  };
  const refused = async (): Promise<Record<string, string>> => {
    const secrets = '/run/secrets/kubernetes.io/serviceaccount';
    const args = [plane.url, 'n1', 'agent', `${secrets}/token`, `${secrets}/ca.crt`];
    return JSON.parse(await node.must(process.execPath, ['--disable-warning=ExperimentalWarning', PROBE, ...args]));
  };
  const setRules = (next: readonly Rule[]) => plane.call('PATCH', ROLE, { rules: next });

  t.strictSame(await refused(), {}, 'nothing is refused');
  for (const { group, resource, verb } of verbs) {
    const without = rules.map((rule) =>
      rule.resources.includes(resource) ? { ...rule, verbs: rule.verbs.filter((each) => each !== verb) } : rule,
    );
    await setRules(without.filter((rule) => rule.verbs.length > 0));
    await until(`without ${resource} ${verb}`, async () => !(await allowed(group, resource, verb)));
    const found = Object.entries(await refused());
    t.equal(found.length, 1, `${resource} ${verb} is needed, and for one thing only`);
    t.match(found[0]?.[0], `${resource} ${verb}`);
    t.match(found[0]?.[1], refusal(resource, verb));
  }
  await setRules(rules);
});
