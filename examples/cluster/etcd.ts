// The etcd servers of the practice cluster: one, or three that are one cluster, each on a machine of its own.

import type { ChildProcess } from 'node:child_process';
import type { Machine } from './machine.ts';

export interface KeyPair {
  /** Paths of PEM files. */
  readonly certificate: string;
  readonly key: string;
}

/** With it the servers speak https only, and want a certificate of the same authority from everyone, each other too. */
export interface EtcdTls {
  readonly authority: string;
  /** Valid for the addresses of the servers. */
  readonly server: KeyPair;
  readonly client: KeyPair;
}

export interface EtcdSetup {
  /** 1 or 3; their addresses count down from the first one's. */
  readonly members?: number | undefined;
  readonly tls?: EtcdTls | undefined;
  /** Further flags of each server. */
  readonly flags?: readonly string[] | undefined;
}

export interface EtcdMember {
  readonly machine: Machine;
  process: ChildProcess | undefined;
  /** Starts its server, or starts it again with what it had stored; doesn't wait. */
  start(): void;
  /** Kills its server and waits until it is gone. */
  kill(): Promise<void>;
  /** Whether it answers and is in touch with a majority. */
  isHealthy(): Promise<boolean>;
  /** Runs etcdctl against this one. @throws Error */
  etcdctl(...args: string[]): Promise<string>;
}

export interface EtcdServers {
  readonly members: readonly EtcdMember[];
  /** Flags of an agent that uses them. */
  readonly agentFlags: readonly string[];
  /** Runs etcdctl against all of them. */
  etcdctl(...args: string[]): Promise<string>;
}

/** Underlay address of member 0, 1, 2. */
export const etcdAddress = (member: number): string => `192.168.50.${250 - member}`;

/** Starts a server whose output goes to a log of this name. */
type Start = (machine: Machine, log: string, command: string, args: readonly string[]) => ChildProcess;

/** Servers on these machines, none of them started yet. */
export function etcdServers(machines: readonly Machine[], { tls, flags = [] }: EtcdSetup, start: Start): EtcdServers {
  const scheme = tls === undefined ? 'http' : 'https';
  const urls = (port: number) => machines.map((_, index) => `${scheme}://${etcdAddress(index)}:${port}`);
  const [endpoints, peers] = [urls(2379), urls(2380)];
  const cluster = peers.map((url, index) => `m${index}=${url}`).join(',');
  const members = machines.map((machine, index) => {
    const [client, peer] = [endpoints[index] as string, peers[index] as string];
    const own = { name: `m${index}`, data: '/var/lib/etcd', client, listen: `${scheme}://0.0.0.0:2379`, peer, cluster };
    const args = [...serverFlags(own, tls), `--listen-metrics-urls=${HEALTH}`, ...peerFlags(tls), ...flags];
    const etcdctl = etcdctlOf(machine, endpoints.slice(index, index + 1), tls);
    return memberOf(machine, etcdctl, () => start(machine, `${machine.name}.log`, 'etcd', args));
  });
  return {
    members,
    agentFlags: [`--etcd-endpoints=${endpoints.join()}`, ...agentTlsFlags(tls)],
    etcdctl: etcdctlOf(machines[0] as Machine, endpoints, tls),
  };
}

const etcdctlOf =
  (machine: Machine, endpoints: readonly string[], tls: EtcdTls | undefined) =>
  (...args: string[]): Promise<string> => {
    const options = [`--endpoints=${endpoints.join()}`, '--command-timeout=5s', ...clientFlags(tls)];
    return machine.must('etcdctl', [...options, ...args], { env: { ETCDCTL_API: '3' } });
  };

/** Each server tells there how it is, to its own machine only. */
const HEALTH = 'http://127.0.0.1:2381';

function memberOf(machine: Machine, etcdctl: EtcdMember['etcdctl'], start: () => ChildProcess): EtcdMember {
  const member: EtcdMember = {
    machine,
    etcdctl,
    process: undefined,
    start() {
      member.process = start();
    },
    async kill() {
      const ending = member.process;
      member.process = undefined;
      if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
      const gone = new Promise((resolve) => ending.once('exit', resolve));
      ending.kill('SIGKILL');
      await gone;
    },
    isHealthy: async () =>
      (await machine.run('curl', ['--silent', '--max-time', '1', `${HEALTH}/health`])).stdout.includes('"true"'),
  };
  return member;
}

/** Between the servers. */
const peerFlags = (tls: EtcdTls | undefined): string[] =>
  tls === undefined
    ? []
    : [
        `--peer-cert-file=${tls.server.certificate}`,
        `--peer-key-file=${tls.server.key}`,
        `--peer-trusted-ca-file=${tls.authority}`,
        '--peer-client-cert-auth',
      ];

export interface EtcdServerPlace {
  readonly name: string;
  /** Its directory. */
  readonly data: string;
  /** URL that clients are told. */
  readonly client: string;
  /** URL where it listens to them, when that is another. */
  readonly listen?: string;
  /** URL for the other servers. */
  readonly peer: string;
  /** "NAME=URL,…" of all of them. */
  readonly cluster: string;
}

/** Of a server, but for TLS between the servers. */
export const serverFlags = (place: EtcdServerPlace, tls: EtcdTls | undefined): string[] => [
  `--name=${place.name}`,
  `--data-dir=${place.data}`,
  `--listen-client-urls=${place.listen ?? place.client}`,
  `--advertise-client-urls=${place.client}`,
  `--listen-peer-urls=${place.peer}`,
  `--initial-advertise-peer-urls=${place.peer}`,
  `--initial-cluster=${place.cluster}`,
  ...(tls === undefined
    ? []
    : [
        `--cert-file=${tls.server.certificate}`,
        `--key-file=${tls.server.key}`,
        `--trusted-ca-file=${tls.authority}`,
        '--client-cert-auth',
      ]),
];

/** Of etcdctl. */
export const clientFlags = (tls: EtcdTls | undefined): string[] =>
  tls === undefined ? [] : [`--cacert=${tls.authority}`, `--cert=${tls.client.certificate}`, `--key=${tls.client.key}`];

const agentTlsFlags = (tls: EtcdTls | undefined): string[] =>
  tls === undefined
    ? []
    : [
        `--etcd-cafile=${tls.authority}`,
        `--etcd-certfile=${tls.client.certificate}`,
        `--etcd-keyfile=${tls.client.key}`,
      ];
