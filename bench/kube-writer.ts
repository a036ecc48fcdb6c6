// Runs on the machine of the API server: makes, changes and removes the objects of a big cluster at request, a JSON line each
// way, and says when.
//
//   kube-writer.ts URL AUTHORITY CERTIFICATE KEY

import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createInterface } from 'node:readline';
import { peerLease } from './agent-leases.ts';
import {
  conditions,
  namespacesFor,
  nodeName,
  nodeObject,
  PODS_ON_NODE,
  podAddress,
  podObject,
  podStatus,
  policyObject,
  namespaceName,
} from './kube-objects.ts';

export type KubeWriterRequest =
  /** So many Nodes. */
  | { readonly verb: 'nodes'; readonly count: number }
  /** Namespaces, each with a policy, for so many pods. */
  | { readonly verb: 'namespaces'; readonly pods: number }
  /** Pods, ten on each Node. */
  | { readonly verb: 'pods'; readonly count: number }
  /** Pods from a number on, on one node of any name. */
  | { readonly verb: 'pods-of'; readonly node: string; readonly subnet: string; readonly from: number }
  /** So many Nodes report as kubelets do. */
  | { readonly verb: 'heartbeats'; readonly count: number; readonly beat: number }
  /** Each Node of `leaving` goes, and the one of the same place in `coming` comes. */
  | { readonly verb: 'replace'; readonly leaving: readonly number[]; readonly coming: readonly number[] };

/** Nanoseconds of CLOCK_MONOTONIC, as text: for each change, when it was asked for. */
export interface KubeWriterReply {
  readonly asked: readonly string[];
}

const AT_ONCE = 32;
/** Nodes are replaced as by a rolling update of machines. */
const ROLLING = 4;

const [url = '', authority = '', certificate = '', key = ''] = process.argv.slice(2);
const agent = new Agent({
  keepAlive: true,
  maxSockets: AT_ONCE,
  ca: readFileSync(authority),
  cert: readFileSync(certificate),
  key: readFileSync(key),
});

/** @throws Error with what the server said */
function call(method: string, path: string, body?: unknown): Promise<void> {
  const type = method === 'PATCH' ? 'application/strategic-merge-patch+json' : 'application/json';
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, url), { method, agent, headers: { 'content-type': type } }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => {
        if ((response.statusCode ?? 500) < 300) resolve();
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${text.slice(0, 500)}`));
      });
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const NODES = '/api/v1/nodes';

async function makePod(number: number, node: string, address: string): Promise<void> {
  const pods = `/api/v1/namespaces/${namespaceName(number)}/pods`;
  const pod = podObject(number, node);
  await call('POST', pods, pod);
  await call('PATCH', `${pods}/${pod.metadata.name}/status`, podStatus(address));
}

async function makeNamespace(number: number): Promise<void> {
  const namespace = `team-${number}`;
  await call('POST', '/api/v1/namespaces', { metadata: { name: namespace } });
  const account = { metadata: { name: 'default' } };
  // The controller that makes it may have been faster.
  await call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, account).catch(() => undefined);
  await call('POST', `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`, policyObject(number));
}

/** Does something for every number below `count`. @returns when each was begun */
async function forEach(count: number, atOnce: number, act: (number: number) => Promise<void>): Promise<string[]> {
  const asked: string[] = [];
  let next = 0;
  const work = async () => {
    for (let number = next++; number < count; number = next++) {
      asked[number] = String(process.hrtime.bigint());
      await act(number);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return asked;
}

function serve(asked: KubeWriterRequest): Promise<string[]> {
  switch (asked.verb) {
    case 'nodes':
      return forEach(asked.count, AT_ONCE, (number) => call('POST', NODES, nodeObject(number)));
    case 'namespaces':
      return forEach(namespacesFor(asked.pods), AT_ONCE, makeNamespace);
    case 'pods':
      return forEach(asked.count, AT_ONCE, (number) => {
        const node = Math.floor(number / PODS_ON_NODE);
        return makePod(number, nodeName(node), podAddress(peerLease(node).subnet, number % PODS_ON_NODE));
      });
    case 'pods-of':
      return forEach(PODS_ON_NODE, 1, (place) =>
        makePod(asked.from + place, asked.node, podAddress(asked.subnet, place)),
      );
    case 'heartbeats':
      return forEach(asked.count, ROLLING, (number) =>
        call('PATCH', `${NODES}/${nodeName(number)}/status`, { status: { conditions: conditions(asked.beat) } }),
      );
    case 'replace':
      return forEach(asked.leaving.length, ROLLING, async (at) => {
        await call('DELETE', `${NODES}/${nodeName(asked.leaving[at] as number)}`);
        await call('POST', NODES, nodeObject(asked.coming[at] as number));
      });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply: KubeWriterReply = { asked: await serve(JSON.parse(line) as KubeWriterRequest) };
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
process.exit(0);
