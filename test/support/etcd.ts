// Real etcd servers for tests: each with its own data directory, on free ports of the loopback interface.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { clientFlags, serverFlags } from '../../examples/cluster/etcd.ts';
import type { TestCertificates } from './certificates.ts';

const run = promisify(execFile);

export interface EtcdServer {
  readonly endpoint: string;
  /** Runs etcdctl against this server. @returns what it printed */
  etcdctl(...args: string[]): Promise<string>;
  /** Kills the server and waits until it is gone. */
  stop(): Promise<void>;
  /** Starts it again, with what it had stored. */
  start(): Promise<void>;
  /** Stops the process without ending it: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Stopped, emptied and started again. */
  wipe(): Promise<void>;
  /** Forgets all history before now. */
  compact(): Promise<void>;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

export interface EtcdOptions {
  /** Serve https with the server's certificate and demand a client's from the same authority. */
  readonly tls?: TestCertificates | undefined;
  readonly flags?: readonly string[] | undefined;
}

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One server, a cluster by itself, that answers. */
export async function startEtcd({ tls, flags = [] }: EtcdOptions = {}): Promise<EtcdServer> {
  const [client, peer] = [await freePort(), await freePort()];
  return startMember({ name: 'm0', client, peer, cluster: `m0=${peerUrl(peer)}`, tls, flags });
}

const peerUrl = (port: number): string => `http://127.0.0.1:${port}`;

interface Member {
  readonly name: string;
  /** Ports. */
  readonly client: number;
  readonly peer: number;
  /** As in EtcdServerPlace. */
  readonly cluster: string;
  readonly tls?: TestCertificates | undefined;
  readonly flags?: readonly string[];
}

async function startMember(member: Member, wait = true): Promise<EtcdServer> {
  const { name, client, peer, cluster, tls, flags = [] } = member;
  const directory = mkdtempSync(join(tmpdir(), 'flannel-etcd-'));
  const endpoint = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${client}`;
  const data = join(directory, 'data');
  let server: ChildProcess | undefined;

  const etcdctl = async (...args: string[]): Promise<string> => {
    const env = { ...process.env, ETCDCTL_API: '3' };
    const { stdout } = await run('etcdctl', [`--endpoints=${endpoint}`, ...clientFlags(tls), ...args], { env });
    return stdout;
  };

  async function start(): Promise<void> {
    mkdirSync(data, { recursive: true });
    const place = { name, data, client: endpoint, peer: peerUrl(peer), cluster };
    server = spawn('etcd', [...serverFlags(place, tls), ...flags], { stdio: 'ignore' });
    if (wait) await untilHealthy(() => etcdctl('endpoint', 'health'));
  }

  async function stop(): Promise<void> {
    const ending = server;
    server = undefined;
    if (ending === undefined || ending.exitCode !== null) return;
    const gone = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill('SIGKILL');
    await gone;
  }

  await start();
  return {
    endpoint,
    etcdctl,
    start,
    stop,
    freeze: () => server?.kill('SIGSTOP'),
    thaw: () => server?.kill('SIGCONT'),
    async wipe() {
      await stop();
      rmSync(data, { recursive: true });
      await start();
    },
    async compact() {
      const [status] = JSON.parse(await etcdctl('endpoint', 'status', '--write-out=json'));
      await etcdctl('compact', String(status.Status.header.revision));
    },
    async remove() {
      await stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Three servers that are one cluster. */
export async function startEtcdCluster(): Promise<EtcdServer[]> {
  const ports = await Promise.all([0, 1, 2].map(async () => ({ client: await freePort(), peer: await freePort() })));
  const cluster = ports.map(({ peer }, index) => `m${index}=${peerUrl(peer)}`).join(',');
  const members = await Promise.all(
    ports.map((port, index) => startMember({ ...port, name: `m${index}`, cluster }, false)),
  );
  for (const member of members) await untilHealthy(() => member.etcdctl('endpoint', 'health'));
  return members;
}

async function untilHealthy(ask: () => Promise<unknown>): Promise<void> {
  for (let left = 150; ; left--) {
    try {
      await ask();
      return;
    } catch (error) {
      // It answers, and wants to know who asks.
      if (String(error).includes('user name is empty')) return;
      if (left === 0) throw error;
      await sleep(100);
    }
  }
}
