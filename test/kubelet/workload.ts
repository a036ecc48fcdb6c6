// What the tests run on the cluster: web servers of one Deployment behind a Service, pods that come and go, and what
// they reach of each other.

import { until } from '../../examples/cluster/cluster.ts';
import type { KubeCluster, PodObject } from './cluster.ts';
import { conditionOf, SLOW } from './cluster.ts';
import { POD_IMAGE } from './images.ts';

const PODS = '/api/v1/namespaces/default/pods';
const PORT = 8080;
/** For one page, and for all. */
const [PAGE_S, PAGES_MS] = [20, 60_000];

const WEB = 'mkdir /w; hostname >/w/index.html; trap "exit 0" TERM; httpd -f -p 8080 -h /w & wait';
const probe = { httpGet: { port: PORT, path: '/' }, timeoutSeconds: 20 };

const container = {
  name: 'web',
  image: POD_IMAGE,
  imagePullPolicy: 'Never',
  command: ['sh', '-c', WEB],
  ports: [{ name: 'http', containerPort: PORT }],
};

const DEPLOYMENT = (replicas: number) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'default' },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: {
        terminationGracePeriodSeconds: 1,
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'kubernetes.io/hostname',
            whenUnsatisfiable: 'ScheduleAnyway',
            labelSelector: { matchLabels: { app: 'web' } },
          },
        ],
        containers: [
          {
            ...container,
            readinessProbe: { ...probe, periodSeconds: 1 },
            livenessProbe: { ...probe, periodSeconds: 2 },
          },
        ],
      },
    },
  },
});

const SERVICE = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'default' },
  spec: { selector: { app: 'web' }, ipFamilyPolicy: 'PreferDualStack', ports: [{ port: 80, targetPort: 'http' }] },
};

/** The pods of a label, those that are ending left out. */
export async function podsOf(
  { plane }: KubeCluster,
  label: string,
  namespace = 'default',
): Promise<readonly PodObject[]> {
  const path = `/api/v1/namespaces/${namespace}/pods?labelSelector=${label}`;
  const { items } = await plane.call<{ items: PodObject[] }>('GET', path);
  return items.filter(({ metadata }) => !('deletionTimestamp' in metadata));
}

/** Waits until so many of a label are ready, and gives them. @throws Error */
export async function readyPods(
  cluster: KubeCluster,
  label: string,
  wanted: number,
  namespace = 'default',
): Promise<readonly PodObject[]> {
  let found: readonly PodObject[] = [];
  const areReady = async () => {
    found = await podsOf(cluster, label, namespace);
    return found.length === wanted && found.every(conditionOf('Ready', 'True'));
  };
  await until(`${wanted} pods of ${label} are ready`, areReady, SLOW);
  return found;
}

/** A Deployment of web servers with their Service; its pods once they are ready. */
export async function startWeb(cluster: KubeCluster, replicas: number): Promise<readonly PodObject[]> {
  await cluster.plane.create(DEPLOYMENT(replicas));
  await cluster.plane.create(SERVICE);
  return readyPods(cluster, 'app=web', replicas);
}

/** Another number of web servers; all of them once they are ready. */
export async function scaleWeb(cluster: KubeCluster, replicas: number): Promise<readonly PodObject[]> {
  await cluster.plane.call('PATCH', '/apis/apps/v1/namespaces/default/deployments/web', { spec: { replicas } });
  return readyPods(cluster, 'app=web', replicas);
}

/** The addresses of their Service. */
export const serviceIps = async ({ plane }: KubeCluster): Promise<readonly string[]> =>
  (await plane.call<{ spec: { clusterIPs: string[] } }>('GET', '/api/v1/namespaces/default/services/web')).spec
    .clusterIPs;

export const addressesOf = ({ status }: PodObject): readonly string[] => (status.podIPs ?? []).map(({ ip }) => ip);

export const containerIdOf = ({ status }: PodObject): string => status.containerStatuses?.[0]?.containerID ?? '';

/** How often its container was started again. */
export const restartsOf = ({ status }: PodObject): number => status.containerStatuses?.[0]?.restartCount ?? 0;

/** Runs a command in the network of a pod. Its exit code is for the caller to judge. */
async function inPod(cluster: KubeCluster, pod: PodObject, command: string, ...args: string[]) {
  const node = cluster.nodeOf(pod);
  const [first = '', ...rest] = await node.within(containerIdOf(pod));
  return node.run(first, [...rest, command, ...args], { timeoutMs: SLOW });
}

const urlOf = (ip: string, port: number): string => `http://${ip.includes(':') ? `[${ip}]` : ip}:${port}/`;

/**
 * What of the pods' addresses, and of the Services', those who ask don't get the page from; none as soon as all do. That a
 * Service is known on a node takes kube-proxy a moment.
 */
export const unreachablePages = (
  cluster: KubeCluster,
  pods: readonly PodObject[],
  services: readonly string[],
  from = pods,
): Promise<readonly string[]> =>
  others(cluster, pods, services, from, ({ code, pages, wanted }) => code === 0 && pages === wanted);

/** Who of those who ask still gets a page; none as soon as nobody does. That a policy is in force takes agents a moment. */
export const reachablePages = (
  cluster: KubeCluster,
  pods: readonly PodObject[],
  services: readonly string[],
  from: readonly PodObject[],
): Promise<readonly string[]> => others(cluster, pods, services, from, ({ pages }) => pages === 0);

interface Asked {
  /** Of curl. */
  readonly code: number;
  /** How many were given. */
  readonly pages: number;
  readonly wanted: number;
}

/** What those got who didn't fare as expected; nothing as soon as all do. */
async function others(
  cluster: KubeCluster,
  pods: readonly PodObject[],
  services: readonly string[],
  from: readonly PodObject[],
  expected: (asked: Asked) => boolean,
): Promise<readonly string[]> {
  const urls = [
    ...pods.flatMap((pod) => addressesOf(pod).map((ip) => urlOf(ip, PORT))),
    ...services.map((ip) => urlOf(ip, 80)),
  ];
  const options = ['--silent', '--fail', '--max-time', String(PAGE_S), '--parallel'];
  const format = '%{onerror}%{url} %{errormsg}\n';
  const ask = async (pod: PodObject) => {
    const { code, stdout, stderr } = await inPod(cluster, pod, 'curl', ...options, '--write-out', format, ...urls);
    const asked = { code, pages: stdout.match(/^web-/gm)?.length ?? 0, wanted: urls.length };
    return expected(asked) ? [] : [`from ${pod.metadata.name}: ${stdout}${stderr}`];
  };
  let left: readonly string[] = [];
  const isSo = async () => {
    left = (await Promise.all(from.map(ask))).flat();
    return left.length === 0;
  };
  await until('pages as expected', isSo, PAGES_MS).catch(() => undefined);
  return left;
}

/** Pods that nobody makes again, and that the scheduler spreads. */
export async function createPods({ plane }: KubeCluster, label: string, names: readonly string[]): Promise<void> {
  const [key = '', value] = label.split('=');
  const spec = {
    terminationGracePeriodSeconds: 1,
    containers: [{ ...container, readinessProbe: { ...probe, periodSeconds: 1 } }],
  };
  for (const name of names) await plane.call('POST', PODS, { metadata: { name, labels: { [key]: value } }, spec });
}

/** Deletes them, and waits until kubelets have forgotten them. @throws Error */
export async function deletePods({ plane }: KubeCluster, label: string): Promise<void> {
  await plane.call('DELETE', `${PODS}?labelSelector=${label}`);
  const areGone = async () =>
    (await plane.call<{ items: unknown[] }>('GET', `${PODS}?labelSelector=${label}`)).items.length === 0;
  await until(`pods of ${label} are gone`, areGone, SLOW);
}

interface EventObject {
  readonly reason: string;
  readonly message: string;
  readonly involvedObject: { readonly kind: string; readonly name: string };
}

/** Events of a namespace with one of these reasons, a line each. */
export async function eventsOf({ plane }: KubeCluster, ...reasons: string[]): Promise<readonly string[]> {
  const { items } = await plane.call<{ items: EventObject[] }>('GET', '/api/v1/events');
  return items
    .filter(({ reason }) => reasons.includes(reason))
    .map(({ reason, message, involvedObject }) => `${reason} ${involvedObject.name}: ${message}`);
}

/**
 * Warnings and errors in the logs of agents that are there. Elements of a pod that is being attached may be found missing and
 * added by whoever looks before its ADD comes to them: that is told as a repair, and is none.
 */
export async function agentWarnings({ nodes }: KubeCluster): Promise<readonly string[]> {
  const logs = nodes.map(async ({ must }) => must('sh', ['-c', 'cat /var/log/pods/kube-flannel_*/flanneld/*.log']));
  const lines = (await Promise.all(logs)).flatMap((log) => log.match(/^.*"level":[456]0.*$/gm) ?? []);
  return lines.filter((line) => !/put right what lets in/.test(line) || /flush|rule|delete|nf_call/.test(line));
}
