// What the flags and variables say about Kubernetes. Pure: the files that it names are read later.

import { type Environment, invalid } from '../arguments.ts';
import type { FlagValues } from '../flags.ts';

/** Where a pod finds its credentials: k8s.io/client-go, rest.InClusterConfig. */
const IN_CLUSTER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** How the API server is reached. */
export interface KubeAccessConfig {
  /** "https://192.0.2.1:6443"; over the kubeconfig's where both are given, undefined where only that has it. */
  readonly server: string | undefined;
  /** Path of a kubeconfig. */
  readonly kubeconfig: string | undefined;
  /** Paths of a pod's credentials; undefined outside of a pod. */
  readonly serviceAccount: { readonly token: string; readonly authority: string } | undefined;
}

/** How the node is found out: by its name, or as the one that a pod runs on. */
export type NodeChoice = { readonly node: string } | { readonly namespace: string; readonly pod: string };

export interface KubeConfig {
  readonly access: KubeAccessConfig;
  readonly node: NodeChoice;
  /** As it stands before an annotation's own name: "flannel.alpha.coreos.com/". */
  readonly annotationPrefix: string;
  /** Path of the network configuration. */
  readonly networkConfig: string;
  /** Whether the node's condition NetworkUnavailable is cleared. */
  readonly clearUnavailable: boolean;
}

/** @throws NetError invalid-flag naming flag or variable */
export function kubeConfig(values: FlagValues, env: Environment, networkConfig: string): KubeConfig {
  return {
    access: accessConfig(values, env, '--kube-subnet-mgr'),
    node: nodeChoice(env),
    annotationPrefix: annotationPrefix(values['kube-annotation-prefix']),
    networkConfig,
    clearUnavailable: values['set-node-network-unavailable'],
  };
}

/** @throws NetError invalid-flag; `wanted`: the flag that needs it */
export function accessConfig(values: FlagValues, env: Environment, wanted: string): KubeAccessConfig {
  const [url, kubeconfig] = [values['kube-api-url'], values['kubeconfig-file']];
  if (kubeconfig !== '' && !kubeconfig.startsWith('/'))
    throw invalid(`--kubeconfig-file ${JSON.stringify(kubeconfig)}: expected an absolute path`, '--kubeconfig-file');
  const server = url === '' ? undefined : serverUrl(url);
  if (server !== undefined || kubeconfig !== '')
    return { server, kubeconfig: kubeconfig || undefined, serviceAccount: undefined };
  const [host, port] = [env.KUBERNETES_SERVICE_HOST, env.KUBERNETES_SERVICE_PORT];
  if (!host || !port) {
    const expected =
      'expected --kubeconfig-file or --kube-api-url outside of a pod (KUBERNETES_SERVICE_HOST is not set)';
    throw invalid(`${wanted}: ${expected}`, wanted);
  }
  return {
    server: serverUrl(`https://${host.includes(':') ? `[${host}]` : host}:${port}`),
    kubeconfig: undefined,
    serviceAccount: { token: `${IN_CLUSTER}/token`, authority: `${IN_CLUSTER}/ca.crt` },
  };
}

function serverUrl(text: string): string {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '')
    throw invalid(`--kube-api-url ${JSON.stringify(text)}: expected http(s)://host:port`, '--kube-api-url');
  return url.href.replace(/\/$/, '');
}

function nodeChoice(env: Environment): NodeChoice {
  const choice = nodeIfNamed(env);
  if (choice !== undefined) return choice;
  throw invalid('NODE_NAME: expected the name of this node, or POD_NAME and POD_NAMESPACE; got nothing', 'NODE_NAME');
}

/** Undefined where the environment doesn't say. @throws NetError invalid-flag */
export function nodeIfNamed(env: Environment): NodeChoice | undefined {
  const { NODE_NAME: node, POD_NAME: pod, POD_NAMESPACE: namespace } = env;
  if (node) return { node: requireName('NODE_NAME', node) };
  if (!pod || !namespace) return undefined;
  return { namespace: requireName('POD_NAMESPACE', namespace), pod: requireName('POD_NAME', pod) };
}

/** RFC 1123 subdomain, as Kubernetes demands of the names of nodes and pods; it becomes part of a URL. */
function requireName(variable: string, text: string): string {
  if (text.length <= 253 && /^[a-z\d]([-a-z\d.]*[a-z\d])?$/.test(text)) return text;
  throw invalid(`${variable} ${JSON.stringify(text)}: expected a name of Kubernetes`, variable);
}

/** flannel's rule (pkg/subnet/kube/annotations.go): at most one "/", which comes at the end where it is missing. */
function annotationPrefix(text: string): string {
  const slashed = text.includes('/') ? text : `${text}/`;
  const prefix = /[/-]$/.test(slashed) ? slashed : `${slashed}-`;
  if (/^([a-z\d_-]+\.)+[a-z\d_-]+\/([a-z\d_-]+-)?$/.test(prefix)) return prefix;
  const expected = 'expected a domain, and perhaps "/" and letters, digits, "-" and "_"';
  throw invalid(`--kube-annotation-prefix ${JSON.stringify(text)}: ${expected}`, '--kube-annotation-prefix');
}
