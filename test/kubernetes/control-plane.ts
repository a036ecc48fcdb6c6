// A real control plane in the machine of the practice cluster that has etcd: kube-apiserver with RBAC and an authority of its
// own, kube-controller-manager that gives nodes their pod CIDRs. Requests of a test go through a relay, since the machine's
// network is none of the test's.

import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { type Cluster, type Node, until, underlayOf } from '../../examples/cluster/cluster.ts';
import { endChild } from '../../examples/cluster/machine.ts';
import type { KubeObject } from '../../flanneld/kube/list-watch.ts';
import { makeAuthority } from '../support/certificates.ts';
import { binDirectory } from './binaries.ts';

const HOST = underlayOf(250)[4];
const PORT = 6443;
/** Of the relay that agents use, so that their connections can be cut. */
const RELAY_PORT = 6444;
const ROOT = join(import.meta.dirname, '../..');
const RELAY = join(import.meta.dirname, 'relay.ts');

export interface ControlPlaneOptions {
  /** Ranges that nodes' pod CIDRs come from: "10.244.0.0/16,fd00:244::/48". */
  readonly clusterCidr: string;
  readonly serviceCidr: string;
  /** Controllers that run; those that the tests of agents need by default. */
  readonly controllers?: string | undefined;
  /** Whether the Service kubernetes leads to the API server. */
  readonly advertise?: boolean | undefined;
}

export interface AgentSettings {
  /** The executable; build/bin/flanneld of the tree when undefined. */
  readonly program?: string;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface ControlPlane {
  /** Of the API server, as nodes reach it. */
  readonly url: string;
  readonly authority: string;
  /** Paths of the certificate and key of system:masters. */
  readonly admin: { readonly certificate: string; readonly key: string };
  /** As system:masters. @throws Error with what the server said */
  call<T = KubeObject>(method: string, path: string, body?: unknown): Promise<T>;
  create(object: Manifest): Promise<void>;
  /** Creates every object of a manifest. */
  apply(manifest: string): Promise<void>;
  addNode(name: string): Promise<void>;
  /** Path of a kubeconfig with a fresh certificate of this subject, "/O=group/CN=name". */
  kubeconfig(name: string, subject: string): string;
  /** Starts another of its programs, with a log of this name. It ends with the cluster. */
  start(name: string, command: string, args: readonly string[]): ChildProcess;
  /** Waits until the node has pod CIDRs; these. */
  podCidrs(name: string): Promise<string[]>;
  /** A fresh token of the agents' service account. */
  token(): Promise<string>;
  /** Puts the service account's files where a pod would have them. */
  giveServiceAccount(node: Node, token?: string): Promise<void>;
  /** Starts an agent as the service account, with NODE_NAME. */
  startAgent(node: Node, settings?: AgentSettings): ChildProcess;
  killServer(): Promise<void>;
  startServer(): Promise<void>;
  /** Breaks every connection of agents. */
  cut(): Promise<void>;
  /** Holds up each piece of what agents send and receive. 0: no more. */
  slow(milliseconds: number): Promise<void>;
  down(): Promise<void>;
}

const CONTROLLERS = 'node-ipam-controller,serviceaccount-controller';

/** @throws Error with the end of a log */
export async function startControlPlane(cluster: Cluster, options: ControlPlaneOptions): Promise<ControlPlane> {
  const { etcd, logs } = cluster;
  const certificates = makeAuthority();
  const { authority } = certificates;
  const serviceIp = options.serviceCidr.split(',').map((range) => `IP:${range.replace(/0?\/.*/, '1')}`);
  const server = certificates.issue('apiserver', {
    subject: '/CN=kube-apiserver',
    usage: 'serverAuth',
    names: [`IP:${HOST}`, 'IP:127.0.0.1', 'DNS:kubernetes.default.svc', ...serviceIp].join(','),
  });
  const admin = certificates.issue('admin', { subject: '/O=system:masters/CN=admin', usage: 'clientAuth' });
  const accountKey = join(certificates.directory, 'sa.pem');
  execFileSync('openssl', ['genpkey', '-algorithm', 'RSA', '-out', accountKey], { stdio: 'ignore' });
  const url = `https://${HOST}:${PORT}`;
  const kubeconfig = (name: string, subject: string): string => {
    const path = join(certificates.directory, `${name}.kubeconfig`);
    writeFileSync(path, kubeconfigOf(url, authority, certificates.issue(name, { subject, usage: 'clientAuth' })));
    return path;
  };
  const data = join(certificates.directory, 'data');
  mkdirSync(data);

  const start = (name: string, command: string, args: readonly string[]): ChildProcess => {
    const log = openSync(`${logs}/${name}.log`, 'a');
    const child = etcd.start(command, args, { log });
    closeSync(log);
    return child;
  };
  const relay = async (listen: string): Promise<ChildProcess> => {
    const child = etcd.start(process.execPath, [RELAY, listen, HOST, String(PORT)]);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    return child;
  };
  const adminSocket = join(certificates.directory, 'admin.sock');
  await relay(adminSocket);
  const cutter = await relay(String(RELAY_PORT));
  async function tell(line: string): Promise<void> {
    cutter.stdin?.write(`${line}\n`);
    await once(cutter.stdout as NodeJS.ReadableStream, 'data');
  }
  const access = {
    socketPath: adminSocket,
    servername: 'kubernetes.default.svc',
    ca: readFileSync(authority),
    cert: readFileSync(admin.certificate),
    key: readFileSync(admin.key),
  };
  const call = <T>(method: string, path: string, body?: unknown): Promise<T> => exchange(access, method, path, body);

  let api: ChildProcess | undefined;
  async function startServer(): Promise<void> {
    const child = start('apiserver', join(binDirectory(), 'kube-apiserver'), [
      '--etcd-servers=http://127.0.0.1:2379',
      `--bind-address=${HOST}`,
      `--advertise-address=${HOST}`,
      `--secure-port=${PORT}`,
      `--endpoint-reconciler-type=${options.advertise ? 'lease' : 'none'}`,
      `--cert-dir=${data}`,
      `--tls-cert-file=${server.certificate}`,
      `--tls-private-key-file=${server.key}`,
      `--client-ca-file=${authority}`,
      '--authorization-mode=Node,RBAC',
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-signing-key-file=${accountKey}`,
      `--service-account-key-file=${accountKey}`,
      `--service-cluster-ip-range=${options.serviceCidr}`,
      '--allow-privileged=true',
    ]);
    api = child;
    const answers = () =>
      call('GET', '/readyz').then(
        () => true,
        () => false,
      );
    await until(
      'the API server is ready',
      async () => {
        if (child.exitCode !== null) throw new Error(`kube-apiserver: ${end(`${logs}/apiserver.log`)}`);
        return answers();
      },
      240_000,
    );
  }
  await startServer();
  const manager = kubeconfig('manager', '/CN=system:kube-controller-manager');
  start('controller-manager', join(binDirectory(), 'kube-controller-manager'), [
    ...['kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig'].map((flag) => `--${flag}=${manager}`),
    `--cert-dir=${data}`,
    `--service-account-private-key-file=${accountKey}`,
    `--root-ca-file=${authority}`,
    '--use-service-account-credentials=true',
    '--leader-elect=false',
    // Its usual 20 requests a second are for clusters that grow slowly.
    '--kube-api-qps=1000',
    '--kube-api-burst=1000',
    '--allocate-node-cidrs=true',
    `--cluster-cidr=${options.clusterCidr}`,
    `--service-cluster-ip-range=${options.serviceCidr}`,
    `--controllers=${options.controllers ?? CONTROLLERS}`,
  ]);

  const plane: ControlPlane = {
    url,
    authority,
    admin,
    call,
    kubeconfig,
    start,
    startServer,
    async create(object) {
      await call('POST', collectionOf(object), object);
    },
    async apply(manifest) {
      for (const document of parseAllDocuments(manifest)) await plane.create(document.toJS() as Manifest);
    },
    async addNode(name) {
      await call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name } });
    },
    async podCidrs(name) {
      let found: string[] = [];
      await until(
        `pod CIDRs of ${name}`,
        async () => {
          const { spec } = await call<{ spec: { podCIDRs?: string[] } }>('GET', `/api/v1/nodes/${name}`);
          found = spec.podCIDRs ?? [];
          return found.length > 0;
        },
        120_000,
      );
      return found;
    },
    async token() {
      const path = '/api/v1/namespaces/kube-flannel/serviceaccounts/flannel/token';
      const made = await call<{ status: { token: string } }>('POST', path, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 3600 },
      });
      return made.status.token;
    },
    async giveServiceAccount(node, token) {
      const directory = '/run/secrets/kubernetes.io/serviceaccount';
      await node.must('sh', ['-ec', `mkdir -p ${directory}; cat > ${directory}/ca.crt`], {
        input: readFileSync(authority, 'utf8'),
      });
      await node.must('sh', ['-ec', `cat > ${directory}/.new; mv ${directory}/.new ${directory}/token`], {
        input: token ?? (await plane.token()),
      });
    },
    startAgent(node, { program = `${ROOT}/build/bin/flanneld`, flags = [], env = {} } = {}) {
      const log = openSync(`${logs}/${node.name}-flanneld.log`, 'a');
      const child = node.start(program, ['--kube-subnet-mgr', '--ip-masq', ...flags], {
        log,
        env: {
          KUBERNETES_SERVICE_HOST: HOST,
          KUBERNETES_SERVICE_PORT: String(RELAY_PORT),
          NODE_NAME: node.name,
          ...env,
        },
      });
      closeSync(log);
      return child;
    },
    async killServer() {
      if (api === undefined) return;
      const gone = once(api, 'exit');
      api.kill('SIGKILL');
      await gone;
    },
    cut: () => tell('cut'),
    slow: (milliseconds) => tell(`slow ${milliseconds}`),
    async down() {
      if (api !== undefined) await endChild(api, 1000);
      certificates.remove();
    },
  };
  return plane;
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

function collectionOf({ apiVersion, kind, metadata: { namespace } }: Manifest): string {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${group}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${kind.toLowerCase()}s`;
}

/** The namespace of agents, and the role that they need: what they have when they are started without their manifest. */
export async function createAgentRole(plane: ControlPlane): Promise<void> {
  await plane.call('POST', '/api/v1/namespaces', { metadata: { name: 'kube-flannel' } });
  await plane.apply(readFileSync(join(ROOT, 'deploy/rbac.yml'), 'utf8'));
}

/** A kubeconfig with a client certificate, by paths. */
const kubeconfigOf = (
  url: string,
  authority: string,
  { certificate, key }: { readonly certificate: string; readonly key: string },
): string => `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${url}", certificate-authority: "${authority}"}}]
users: [{name: u, user: {client-certificate: "${certificate}", client-key: "${key}"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`;

const end = (path: string): string => readFileSync(path, 'utf8').trimEnd().split('\n').slice(-3).join('\n');

function exchange<T>(access: object, method: string, path: string, body?: unknown): Promise<T> {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  return new Promise((resolve, reject) => {
    const call = request(
      { ...access, agent: false, method, path, headers: { 'content-type': type }, timeout: 30_000 },
      (response) => {
        let text = '';
        response.on('data', (chunk) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          const good = (response.statusCode ?? 500) < 300;
          if (!good) reject(new Error(`${method} ${path}: ${response.statusCode} ${text.slice(0, 500)}`));
          else resolve((text.startsWith('{') ? JSON.parse(text) : text) as T);
        });
      },
    );
    call.on('error', reject);
    call.on('timeout', () => call.destroy(new Error(`${method} ${path}: no answer`)));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
