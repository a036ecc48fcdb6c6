// Does with the API everything that an agent does, with the product's own parts, and prints what was refused: one JSON object,
// the error's message by the verb. Runs in a node's machine. `node verbs-probe.ts SERVER NODE POD TOKEN-FILE CA-FILE`

import { openClient } from '../../flanneld/kube/client.ts';
import { credentialsReader } from '../../flanneld/kube/credentials.ts';
import { kubeEvents } from '../../flanneld/kube/events.ts';
import { listWatch } from '../../flanneld/kube/list-watch.ts';
import { nodeName } from '../../flanneld/kube/node-name.ts';
import { openKube } from '../../flanneld/subnet/kube.ts';
import { parseNetworkConfig } from '../../flanneld/network-config.ts';
import { ip } from '../../model/ip.ts';

const [server = '', node = '', pod = '', token = '', authority = ''] = process.argv.slice(2);
const access = { server, kubeconfig: undefined, serviceAccount: { token, authority } };
const client = () => openClient(credentialsReader(access));
const network = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}');
const signal = AbortSignal.timeout(20_000);
const refused: Record<string, string> = {};

async function attempt(verb: string, run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    refused[verb] = (error as Error).message;
  }
}

/** What a list and watch report until the watch has been accepted, or has failed. */
async function follow(path: string): Promise<void> {
  const stop = new AbortController();
  const refusal = new Promise<void>((_, reject) => {
    const objects = listWatch(client(), { path, strip: ({ metadata }) => metadata }, stop.signal, reject);
    void objects.next().then(() => void objects.next());
  });
  // An accepted watch is silent: a second without refusal is enough for a server that answers in milliseconds.
  await Promise.race([refusal, new Promise((resolve) => setTimeout(resolve, 1000))]).finally(() => stop.abort());
}

const kube = { annotationPrefix: 'flannel.alpha.coreos.com/', networkConfig: '/none', clearUnavailable: true };
await attempt('pods get', () => nodeName({ namespace: 'kube-flannel', pod }, client(), signal));
await attempt('nodes get|nodes/status patch', async () => {
  const manager = openKube({ kube, client: client(), node, report: () => undefined });
  const attributes = {
    publicIp: { 4: ip('192.168.50.1') },
    backendType: 'host-gw',
    backendData: { 4: { at: Date.now() } },
  };
  await manager.acquire({ network, attributes, previous: {}, inUse: false }, signal);
});
const FOLLOWED = {
  nodes: '/api/v1/nodes',
  pods: '/api/v1/pods',
  namespaces: '/api/v1/namespaces',
  networkpolicies: '/apis/networking.k8s.io/v1/networkpolicies',
};
await Promise.all(
  Object.entries(FOLLOWED).map(([name, path]) => attempt(`${name} list|${name} watch`, () => follow(path))),
);
await attempt('events create|events patch', async () => {
  let [trouble, settled]: [unknown, number] = [undefined, 0];
  const counting = client();
  const counted = { ...counting };
  for (const verb of ['create', 'patch'] as const)
    counted[verb] = (...args) => counting[verb](...args).finally(() => settled++);
  const events = kubeEvents(counted, node, (error) => (trouble ??= error), { againMs: 0 });
  for (const turn of [1, 2]) {
    events.tell({ type: 'Warning', reason: 'Probe', message: 'of the role' });
    while (settled < turn && trouble === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await new Promise((resolve) => setImmediate(resolve));
  if (trouble !== undefined) throw trouble;
});
process.stdout.write(`${JSON.stringify(refused)}\n`);
process.exit(0);
