// The measurement itself, in a network namespace of its own: a client and a server on veth pairs, between them this host.
// Takes its options as JSON, prints results as JSON.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../flanneld/clock.ts';
import { createApplier } from '../flanneld/policy/apply.ts';
import { createCompiler } from '../flanneld/policy/compile.ts';
import { directorySource } from '../flanneld/policy/directory.ts';
import type { Objects, Pod } from '../flanneld/policy/objects.ts';
import { policyTable } from '../flanneld/policy/table.ts';
import { EMPTY_WORLD, worldOf } from '../flanneld/policy/world.ts';
import { openKernel } from '../kernel/open.ts';
import { printTable } from '../model/ruleset.ts';
import {
  CLIENT,
  CONNTRACK,
  linearRules,
  policyAt,
  policyManifest,
  PORT,
  SERVER,
  setting,
  SPREADS,
  type Spread,
  targetOf,
} from './policy-rules.ts';
import type { PolicyResults, RunOptions } from './policy.ts';

const { sizes, batches, rounds, flood } = JSON.parse(process.argv[2] ?? '') as RunOptions;
const kernel = openKernel();
const NAMES = [`bench${process.pid}c`, `bench${process.pid}s`] as const;
const LOG = {
  debug: () => undefined,
  info: () => undefined,
  warn: (_: object, text: string) => process.stderr.write(`${text}\n`),
  error: () => undefined,
};
const ECHO = `const socket = require('node:dgram').createSocket('udp4');
let answered = new Set();
socket.on('message', (_, from) => { if (!answered.has(from.port)) { answered.add(from.port); socket.send('y', from.port, from.address); } });
socket.bind(${PORT}, '0.0.0.0', () => console.log('ready'));`;

const sh = (script: string): string => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
const load = (text: string) => execFileSync('nft', ['-f', '-'], { input: text });

function connect(name: string, address: string, device: string): void {
  sh(`ip netns add ${name}
    ip link add ${device} type veth peer name eth0 netns ${name}
    ip link set ${device} up
    ip -n ${name} address add ${address}/32 dev eth0
    ip -n ${name} link set eth0 up
    ip -n ${name} route add 169.254.1.1 dev eth0
    ip -n ${name} route add default via 169.254.1.1
    ip address add 169.254.1.1/32 dev ${device}
    ip route add ${address} dev ${device}`);
}

/** Nanoseconds of a packet. */
function packetCost(established: boolean): number {
  const words = [
    'netns',
    'exec',
    NAMES[0],
    flood,
    SERVER,
    String(PORT),
    String(batches),
    ...(established ? ['answered'] : []),
  ];
  return Number(execFileSync('ip', words, { encoding: 'utf8' }));
}

/** A table that is asleep has no hooks: packets don't come by. */
const setAsleep = (table: string, asleep: boolean) => load(`table inet ${table} { ${asleep ? 'flags dormant;' : ''} }`);

/**
 * Nanoseconds of a packet through conntrack alone, and through each of the tables too; the least of all rounds. All are in
 * memory, and take turns: so what else the machine does, and what the caches hold, is the same for all.
 */
function packetCosts(tables: readonly string[], established: boolean): number[] {
  const least = [Number.POSITIVE_INFINITY, ...tables.map(() => Number.POSITIVE_INFINITY)];
  const measure = (at: number) => {
    least[at] = Math.min(least[at] as number, packetCost(established));
  };
  for (let round = 0; round < rounds; round++) {
    measure(0);
    for (const [at, table] of tables.entries()) {
      setAsleep(table, false);
      measure(at + 1);
      setAsleep(table, true);
    }
  }
  return least;
}

async function answered<T>(measure: () => T): Promise<T> {
  const server = spawn('ip', ['netns', 'exec', NAMES[1], process.execPath, '-e', ECHO], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout, 'data');
  try {
    return measure();
  } finally {
    server.kill();
    await once(server, 'exit');
  }
}

function policyText(objects: Objects, name: string, stamp: number | undefined): string {
  const compiled = createCompiler('closed')(worldOf(objects, [], 'here', EMPTY_WORLD));
  return printTable({ ...policyTable(compiled, { mode: 'cut', stamp }), name });
}

/** At first nobody answers, so that no flow is established. */
async function perPacket(spread: Spread, policies: number): Promise<PolicyResults['packets'][number]> {
  const world = setting(spread, policies);
  try {
    load(CONNTRACK);
    // Without a stamp every packet is judged: what the first of a flow costs.
    const texts = new Map([
      ['judged', policyText(world.objects, 'judged', undefined)],
      ['stamped', policyText(world.objects, 'stamped', 1)],
      ['linear', linearRules(world)],
    ]);
    for (const [table, text] of policies === 0 ? [] : texts) {
      load(text);
      setAsleep(table, true);
    }
    const through = (table: string) => (policies === 0 ? [] : [table, 'linear']);
    const fresh = packetCosts(through('judged'), false);
    const established = await answered(() => packetCosts(through('stamped'), true));
    const costs = (at: number) => ({ fresh: fresh[at] ?? Number.NaN, established: established[at] ?? Number.NaN });
    const conntrack = costs(0);
    return policies === 0
      ? { spread, policies, conntrack, ours: conntrack, linear: conntrack }
      : { spread, policies, conntrack, ours: costs(1), linear: costs(2) };
  } finally {
    sh('nft flush ruleset');
  }
}

interface Timed {
  readonly ms: number;
  /** Processor time of this process. */
  readonly cpuMs: number;
}

async function timed(act: () => Promise<unknown>): Promise<Timed> {
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  await act();
  const { user, system } = process.cpuUsage(cpu);
  return { ms: performance.now() - start, cpuMs: (user + system) / 1000 };
}

async function changes(policies: number): Promise<PolicyResults['changes'][number]> {
  const stop = new AbortController();
  const applier = createApplier({ kernel, clock: systemClock, log: LOG, established: 'cut', signal: stop.signal });
  const unwatch = kernel.watch(applier.onChange);
  const compile = createCompiler('closed');
  let { objects } = setting('spread', policies);
  let world = EMPTY_WORLD;
  const reach = (now: Objects) =>
    timed(() => {
      objects = now;
      world = worldOf(objects, [], 'here', world);
      return applier.want(compile(world));
    });
  const settle = () => new Promise((resolve) => setTimeout(resolve, 100));
  const several = async (next: (round: number) => Objects): Promise<Timed[]> => {
    const all: Timed[] = [];
    for (let round = 0; round < rounds; round++) {
      await settle();
      all.push(await reach(next(round)));
    }
    return all;
  };
  const cold = await reach(objects);
  const edit = await several((round) => ({
    ...objects,
    policies: objects.policies.with(
      round,
      policyAt(round, policies, targetOf('spread', round, policies), 20_000 + round),
    ),
  }));
  const added = await several((round) => {
    const at = objects.pods.findIndex(({ name }) => name === `peer${round}`);
    return { ...objects, pods: objects.pods.with(at, { ...(objects.pods[at] as Pod), node: 'here' }) };
  });
  stop.abort();
  unwatch();
  sh('nft flush ruleset');
  return { policies, cold: [cold], edit, add: added, event: await events(policies) };
}

/** From the renaming of a manifest to the table in force. */
async function events(policies: number): Promise<Timed[]> {
  const directory = mkdtempSync(join(tmpdir(), 'policy-bench-'));
  const stop = new AbortController();
  const applier = createApplier({ kernel, clock: systemClock, log: LOG, established: 'cut', signal: stop.signal });
  const compile = createCompiler('closed');
  const { objects } = setting('spread', policies);
  let world = EMPTY_WORLD;
  let told = Promise.withResolvers<void>();
  const write = (at: number, port: number) => {
    const manifest = {
      apiVersion: 'networking.k8s.io/v1',
      ...policyManifest(at, policies, targetOf('spread', at, policies), port),
    };
    writeFileSync(join(directory, '.new'), JSON.stringify(manifest));
    renameSync(join(directory, '.new'), join(directory, `policy${at}.json`));
  };
  for (let at = 0; at < policies; at++) write(at, 9000);
  const onObjects = async (now: Objects) => {
    world = worldOf({ ...now, namespaces: objects.namespaces, pods: objects.pods }, [], 'here', world);
    if (await applier.want(compile(world))) told.resolve();
  };
  const watching = directorySource(directory, systemClock).watch(
    { onObjects: (now) => void onObjects(now), onTrouble: (trouble) => trouble && LOG.warn({}, String(trouble)) },
    stop.signal,
  );
  const all: Timed[] = [];
  try {
    await told.promise;
    for (let round = 0; round < rounds; round++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      told = Promise.withResolvers();
      const replaced = () => {
        write(round, 21_000 + round);
        return told.promise;
      };
      all.push(await timed(replaced));
    }
  } finally {
    stop.abort();
    await watching;
    rmSync(directory, { recursive: true });
    sh('nft flush ruleset');
  }
  return all;
}

try {
  sh('ip link set lo up; sysctl -qw net.ipv4.ip_forward=1');
  connect(NAMES[0], CLIENT, 'client');
  connect(NAMES[1], SERVER, 'server');
  const packets: PolicyResults['packets'][number][] = [];
  for (const policies of sizes) {
    for (const spread of policies === 0 ? SPREADS.slice(0, 1) : SPREADS) {
      process.stderr.write(`  packets: ${policies} policies, ${spread}\n`);
      packets.push(await perPacket(spread, policies));
    }
  }
  const programmed: PolicyResults['changes'][number][] = [];
  for (const policies of sizes.filter((size) => size > 0)) {
    process.stderr.write(`  changes: ${policies} policies\n`);
    programmed.push(await changes(policies));
  }
  process.stdout.write(JSON.stringify({ packets, changes: programmed }));
} finally {
  for (const name of NAMES) sh(`ip netns delete ${name} 2>/dev/null || true`);
  kernel.close();
}
process.exit(0);
