// From manifests to the table of the node "here", as the agent does it.

import { createCompiler, type Compiler } from '../../../flanneld/policy/compile.ts';
import type { Objects } from '../../../flanneld/policy/objects.ts';
import { parseNamespace, parsePod } from '../../../flanneld/policy/parse-pod.ts';
import { parsePolicy } from '../../../flanneld/policy/parse-policy.ts';
import { type Established, policyTable } from '../../../flanneld/policy/table.ts';
import { EMPTY_WORLD, type World, worldOf } from '../../../flanneld/policy/world.ts';
import type { Table } from '../../../model/ruleset.ts';
import type { Seen } from './interpret.ts';
import type { Cluster, Manifest, Packet } from './oracle.ts';

export const objectsOf = ({ namespaces, pods, policies }: Cluster): Objects => ({
  namespaces: namespaces.map((each) => parseNamespace(each, 'namespace')),
  pods: pods.map((each) => parsePod(each, 'pod')),
  policies: policies.map((each) => parsePolicy(each, 'policy')),
});

export const isHere = ({ spec }: Manifest): boolean => spec.nodeName === 'here';

export const worldHere = (cluster: Cluster, before: World = EMPTY_WORLD): World =>
  worldOf(objectsOf(cluster), [], 'here', before);

export const tableOf = (
  cluster: Cluster,
  established: Established = { mode: 'cut', stamp: 1 },
  compiler: Compiler = createCompiler('closed'),
): Table => policyTable(compiler(worldHere(cluster)), established);

const NUMBERS = { TCP: 6, UDP: 17, SCTP: 132, ICMP: 1 } as const;
/** What a client's port looks like. */
const CLIENT_PORT = 43_210;

/** The first packet of a flow. */
export const firstOf = ({ from, to, protocol, port }: Packet): Seen => ({
  saddr: from,
  daddr: to,
  protocol: NUMBERS[protocol],
  sport: CLIENT_PORT,
  dport: port,
});

/** A packet that answers it. */
export const answerTo = (packet: Packet): Seen => ({
  ...firstOf(packet),
  saddr: packet.to,
  daddr: packet.from,
  sport: packet.port,
  dport: CLIENT_PORT,
  direction: 'reply',
  state: 'established',
});
