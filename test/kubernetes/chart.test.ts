// The Helm chart: by default the very objects of the manifest; every value does what values.yaml says, and a wrong one is
// refused.

import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { helm, lacksHelm } from '../deploy/helm.ts';
import { type Objects, objectsOf } from '../deploy/objects.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy');
const CHART = join(DEPLOY, 'helm/flannel-ts');
const skip = lacksHelm();

const setting = (values: Readonly<Record<string, unknown>>): string[] =>
  Object.entries(values).flatMap(([key, value]) => ['--set-json', `${key}=${JSON.stringify(value)}`]);
const render = (values: Readonly<Record<string, unknown>> = {}, namespace = 'kube-flannel'): Objects =>
  objectsOf(helm('template', 'flannel', CHART, '--namespace', namespace, ...setting(values)));

const agentSet = (objects: Objects, namespace = 'kube-flannel') => objects[`DaemonSet ${namespace}/kube-flannel-ts`];
const config = (objects: Objects) => objects['ConfigMap kube-flannel/kube-flannel-ts-cfg']?.data;

t.test('the defaults are the manifest', { skip }, async (t) => {
  const manifest = objectsOf(readFileSync(join(DEPLOY, 'kube-flannel-ts.yml'), 'utf8'));
  const rendered = render();
  t.strictSame(Object.keys(rendered).sort(), Object.keys(manifest).sort());
  for (const [key, object] of Object.entries(manifest)) t.strictSame(rendered[key], object, key);
});

t.test('lint finds nothing', { skip }, async (t) => {
  t.match(helm('lint', '--strict', CHART), /0 chart\(s\) failed/);
});

t.test('every object is in the namespace that is asked for', { skip }, async (t) => {
  const objects = render({}, 'elsewhere');
  for (const [key, { kind, metadata }] of Object.entries(objects)) {
    if (kind === 'Namespace') t.equal(metadata.name, 'elsewhere');
    else if (!kind.startsWith('ClusterRole')) t.equal(metadata.namespace, 'elsewhere', key);
  }
  t.match(objects['ClusterRoleBinding /flannel'], { subjects: [{ name: 'flannel', namespace: 'elsewhere' }] });
  t.equal(render({ createNamespace: false })['Namespace /kube-flannel'], undefined);
});

interface AgentSet {
  readonly spec: { readonly template: PodTemplate };
}

/** Values, and what of the DaemonSet's pod or of its container they change. */
const POD: readonly (readonly [Readonly<Record<string, unknown>>, object])[] = [
  [{ hostPID: true }, { hostPID: true }],
  [{ 'image.pullSecrets': ['mine'] }, { imagePullSecrets: [{ name: 'mine' }] }],
  [{ priorityClassName: 'other' }, { priorityClassName: 'other' }],
  [{ nodeSelector: { a: 'b' } }, { nodeSelector: { a: 'b', 'kubernetes.io/os': 'linux' } }],
  [{ tolerations: [{ key: 'a', operator: 'Exists' }] }, { tolerations: [{ key: 'a', operator: 'Exists' }] }],
  [{ affinity: { nodeAffinity: { x: 1 } } }, { affinity: { nodeAffinity: { x: 1 } } }],
  [{ 'cni.graceSeconds': 5 }, { initContainers: [{ args: ['install-cni', '--cni-grace=5'] }] }],
];
const CONTAINER: readonly (readonly [Readonly<Record<string, unknown>>, object])[] = [
  [{ 'image.repository': 'r/x', 'image.tag': 'y' }, { image: 'r/x:y' }],
  [{ 'image.pullPolicy': 'Never' }, { imagePullPolicy: 'Never' }],
  [{ 'agent.extraArgs': ['--iface=eth1', '-v=1'] }, { args: /--iface=eth1,-v=1$/ }],
  [{ 'resources.limits': { memory: '1Gi' } }, { resources: { limits: { memory: '1Gi' } } }],
  [
    { 'apiServer.host': '192.0.2.1', 'agent.extraEnv': [{ name: 'A', value: 'b' }] },
    {
      env: [
        { name: 'NODE_NAME' },
        { name: 'KUBERNETES_SERVICE_HOST', value: '192.0.2.1' },
        { name: 'KUBERNETES_SERVICE_PORT', value: '6443' },
        { name: 'A', value: 'b' },
      ],
    },
  ],
  [
    { 'health.address': '0.0.0.0', 'health.port': 9000 },
    {
      args: /--healthz-ip=0\.0\.0\.0,--healthz-port=9000/,
      livenessProbe: { httpGet: { host: '127.0.0.1', port: 9000 } },
    },
  ],
  [{ 'health.address': '::1' }, { readinessProbe: { httpGet: { host: '::1' } } }],
];

interface PodTemplate {
  readonly spec: { readonly containers: readonly (Record<string, unknown> & { readonly args: readonly string[] })[] };
}
const template = (objects: Objects): PodTemplate => (agentSet(objects) as unknown as AgentSet).spec.template;

t.test('every value does what it says', { skip }, async (t) => {
  for (const [values, expected] of POD) t.match(template(render(values)).spec, expected, JSON.stringify(values));
  for (const [values, expected] of CONTAINER) {
    const [container] = template(render(values)).spec.containers;
    t.match({ ...container, args: container?.args.join() }, expected, JSON.stringify(values));
  }
  t.notMatch(template(render({ 'agent.masquerade': false })).spec.containers[0]?.args.join(), /ip-masq/);
  t.match(template(render({ podLabels: { a: 'b' }, podAnnotations: { c: 'd' } })), {
    metadata: { labels: { app: 'flannel-ts', a: 'b' }, annotations: { c: 'd' } },
  });
  t.match(agentSet(render({ updateStrategy: { type: 'OnDelete', rollingUpdate: null } }))?.spec, {
    updateStrategy: { type: 'OnDelete' },
  });
  t.match(config(render({ 'network.ipv6': 'fd00::/48', 'network.backend': { Type: 'host-gw' } })), {
    'net-conf.json': {
      Network: '10.244.0.0/16',
      IPv6Network: 'fd00::/48',
      EnableIPv6: true,
      Backend: { Type: 'host-gw' },
    },
  });
  t.strictSame(
    (
      config(render({ 'network.ipv4': '', 'network.ipv6': 'fd00::/48', 'network.extra': { IPv6SubnetLen: 64 } })) as {
        'net-conf.json': unknown;
      }
    )['net-conf.json'],
    { EnableIPv4: false, IPv6Network: 'fd00::/48', EnableIPv6: true, IPv6SubnetLen: 64, Backend: { Type: 'vxlan' } },
  );
  t.match(
    config(render({ 'cni.chained': [{ type: 'tuning' }], 'cni.delegate': { mtu: 1400 }, 'cni.version': '1.1.0' })),
    {
      'cni-conf.json': {
        cniVersion: '1.1.0',
        plugins: [{ type: 'flannel', delegate: { mtu: 1400, hairpinMode: true } }, { type: 'tuning' }],
      },
    },
  );
  t.match(template(render({ 'cni.binDir': '/b', 'cni.confDir': '/c' })).spec, {
    volumes: [
      { name: 'config' },
      { name: 'cni-bin', hostPath: { path: '/b' } },
      { name: 'cni-conf', hostPath: { path: '/c' } },
      { name: 'cni-mark', hostPath: { path: '/etc/cni/net.d' } },
    ],
  });
});

/** What `helm install` says at its end. Without a cluster only objects are rendered: it becomes a value of one. */
function notes(t: Test, values: Readonly<Record<string, unknown>> = {}): string {
  const chart = join(t.testdir(), 'flannel-ts');
  cpSync(CHART, chart, { recursive: true });
  const path = join(chart, 'templates/NOTES.txt');
  const text = readFileSync(path, 'utf8');
  rmSync(path);
  writeFileSync(join(chart, 'templates/_notes.tpl'), `{{- define "notes" }}${text}{{ end }}`);
  writeFileSync(
    join(chart, 'templates/notes.yaml'),
    'kind: Notes\nmetadata: { name: x }\ntext: {{ include "notes" . | toJson }}',
  );
  return String(
    objectsOf(helm('template', 'flannel', chart, '--namespace', 'elsewhere', ...setting(values)))['Notes /x']?.text,
  );
}

t.test('the notes name what to look at, and that nothing enforces policies', { skip }, async (t) => {
  t.match(notes(t), /--namespace elsewhere exec daemonset\/kube-flannel-ts -- flanneld status\n/);
  t.match(notes(t), /inside of 10\.244\.0\.0\/16\.\nNetworkPolicies are not enforced\. .*--policy-source=kube/);
  t.match(notes(t, { 'network.ipv6': 'fd00::/48' }), /inside of 10\.244\.0\.0\/16 and fd00::\/48\./);
  t.notMatch(notes(t, { 'agent.extraArgs': ['-v=1', '--policy-source=kube'] }), /NetworkPolicies/);
});

t.test('wrong values are refused', { skip }, async (t) => {
  for (const values of [
    { 'network.ipv4': '10.244.0.0' },
    { 'network.ipv4': '' },
    { 'network.backend': { Type: '' } },
    { 'cni.confDir': 'net.d' },
    { 'cni.graceSeconds': 4000 },
    { 'health.port': 0 },
    { 'image.pullPolicy': 'Sometimes' },
    { hostPid: true },
  ]) {
    t.throws(() => render(values), /schema/i, JSON.stringify(values));
  }
});
