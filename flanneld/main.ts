// flanneld, the executable: reads the command line, puts the parts together, turns signals into a clean stop and errors into
// one line and an exit code.

import { existsSync, readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Logger, pino } from 'pino';
import { ensureDirectory } from '../kernel/files.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { giveBackMemory } from '../kernel/memory.ts';
import { execute } from '../kernel/execute.ts';
import { openKernel } from '../kernel/open.ts';
import type { OpenEchoes } from '../kernel/probe.ts';
import { tellServiceManager } from '../kernel/service-manager.ts';
import { describe } from '../model/errors.ts';
import { type Agent, createAgent } from './agent.ts';
import type { AgentDeps } from './agent-deps.ts';
import { cleanup } from './cleanup.ts';
import { startChild } from '../kernel/child.ts';
import { systemClock } from './clock.ts';
import { type CniRun, openCni, openCniPlaces } from './cni/run.ts';
import { installCni, uninstallCni } from './cni/install.ts';
import { createCniList, LIST_NAME, readCniList, withCniList } from './cni/list.ts';
import { cniOnly, withCni } from './cni/view.ts';
import { type AgentConfig, type Invocation, type PolicyConfig, parseArguments } from './config.ts';
import { writeDockerOptions } from './docker-opts.ts';
import { dryRun } from './dry-run.ts';
import { failureOf } from './failure.ts';
import { healthServer, serveHealth } from './health.ts';
import type { KubeConfig } from './kube/options.ts';
import { hostPrograms } from './firewall/programs.ts';
import { humanLine } from './human-log.ts';
import type { Log } from './log.ts';
import { boundMemory, collectGarbage, settleMemory } from './memory.ts';
import { nodeId } from './node-id.ts';
import { withReadyNotice } from './ready-notice.ts';
import { statusReport } from './status.ts';
import { keepSocket, statusSocketPath } from './status-socket.ts';
import { askPolicy } from './policy/ask.ts';
import type { PolicyService } from './policy/enforce.ts';
import { policyRoutes } from './policy/routes.ts';
import { openFileStore } from './subnet/file.ts';
import { grantsPath, openGrants } from './subnet/grants.ts';

/** Whatever still hangs then: a stop is fast. */
const STOP_MS = 1500;

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** Written at once, so that the last line before an exit is not lost. */
function openLog({ verbosity }: AgentConfig): Logger {
  const write = (line: string) => void process.stderr.write(process.stderr.isTTY ? humanLine(line) : line);
  return pino({ base: null, level: verbosity > 0 ? 'debug' : 'info' }, { write });
}

/** `last` begins with the stop, and may take longer than all else. */
function stopSignal(log: Log, last: () => Promise<void> = async () => undefined): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(0);
      log.info({}, `${name}: stopping; routes, rules and lease stay`);
      controller.abort(new Error(name));
      const ended = last();
      setTimeout(() => void ended.then(() => process.exit(0)), STOP_MS).unref();
    });
  }
  return controller.signal;
}

async function agentDeps(config: AgentConfig, log: Log): Promise<Omit<AgentDeps, 'kernel'>> {
  return {
    config,
    log,
    clock: systemClock,
    proxy: { program: fileURLToPath(new URL('../build/bin/udp-proxy', import.meta.url)), start: startChild },
    execute,
    openEchoes: config.probeSeconds > 0 ? await echoes(log) : undefined,
    programs: hostPrograms(process.env.PATH),
    ...(await storeOf(config, log)),
  };
}

/** A node without the compiled module works, and says that it probes nobody. */
async function echoes(log: Log): Promise<OpenEchoes | undefined> {
  try {
    return (await import('../kernel/probe.ts')).openEchoes;
  } catch (error) {
    log.warn({}, `peers are not probed: raw-socket can't be loaded: ${describe(error)}`);
    return undefined;
  }
}

/** Loaded only where it is used: etcd's client takes more memory than any other module. */
async function storeOf(config: AgentConfig, log: Log): Promise<Pick<AgentDeps, 'identity' | 'openManager'>> {
  const { fileStore, kube, etcd, nodeIdFile, renewMarginMinutes } = config;
  const report = (trouble: unknown) => log.warn({}, describe(trouble));
  if (kube !== undefined) return (await import('./subnet/kube-store.ts')).kubeStore(kube, report);
  const identity = { isKept: () => existsSync(nodeIdFile), keep: () => nodeId(nodeIdFile) };
  if (fileStore !== undefined)
    return { identity, openManager: (nodeId) => openFileStore({ files: fileStore, nodeId }) };
  const { openEtcd } = await import('./subnet/etcd.ts');
  const grants = openGrants(grantsPath(config.subnetFile), bootIdNow());
  return { identity, openManager: (nodeId) => openEtcd({ etcd, nodeId, renewMarginMinutes, report, grants }) };
}

const bootIdNow = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Of the peers and of the policies, each by itself: either may take longer. */
const settle = (): void => settleMemory(systemClock, { collect: collectGarbage, giveBack: giveBackMemory });

async function cniOf(config: AgentConfig, kernel: Kernel, log: Log): Promise<CniRun | undefined> {
  const { socket, only: alone } = config.cni;
  if (socket === undefined) return undefined;
  const policy = config.policy && (await policyOf(config.policy, kernel, log));
  return openCni({ socket, kernel, log, bootId: bootIdNow(), alone, policy });
}

/** Loaded only where it is used, with what reads YAML. */
async function policyOf(policy: PolicyConfig, kernel: Kernel, log: Log): Promise<PolicyService> {
  const { openPolicy } = await import('./policy/open.ts');
  return openPolicy({ ...policy, kernel, bootId: bootIdNow(), log, onSettled: settle });
}

async function agentOf(
  config: AgentConfig,
  kernel: Kernel,
  log: Log,
  cni: CniRun | undefined,
  onAccepted: () => void,
): Promise<Agent> {
  if (cni !== undefined && config.cni.only) return cniOnly(cni.service, config, systemClock.now(), onAccepted);
  const onSettled = () => {
    settle();
    if (config.kube !== undefined && config.policy === undefined) void tellUnenforced(config.kube, log);
  };
  const agent = createAgent({ ...(await agentDeps(config, log)), kernel, onAccepted, onSettled });
  return cni === undefined ? agent : withCni(agent, cni.service);
}

/** Loaded only where it is used, with the client of the API server. */
async function tellUnenforced({ access }: KubeConfig, log: Log): Promise<void> {
  await (await import('./kube/unenforced.ts')).tellUnenforced(access, log);
}

/** With the CNI list, where it is the agent's to keep. @throws NetError file-unreadable, invalid-config */
function listed({ cni: { list, configuration } }: AgentConfig, log: Log): (agent: Agent) => Agent {
  if (list === undefined) return (agent) => agent;
  const target = join(configuration, LIST_NAME);
  const kept = createCniList({ clock: systemClock, log, text: readCniList(list), target });
  return (agent) => withCniList(agent, kept);
}

/** With what systemd is told, where it asks for that. */
function noticed(agent: Agent, log: Log): Agent {
  const { NOTIFY_SOCKET: manager } = process.env;
  if (!manager) return agent;
  return withReadyNotice(agent, { clock: systemClock, log, tell: () => tellServiceManager(manager, 'READY=1') });
}

async function runAgent(config: AgentConfig): Promise<void> {
  const log = openLog(config);
  const withList = listed(config, log);
  const kernel = openKernel();
  const cni = await cniOf(config, kernel, log);
  const signal = stopSignal(log, async () => cni?.stop());
  const accepted = () => {
    serveStatus();
    serveCni();
  };
  const agent = noticed(withList(await agentOf(config, kernel, log, cni, accepted)), log);
  boundMemory();
  const servers: Server[] = [];
  const socket = statusSocketPath(config.subnetFile);
  let local: Server | undefined;
  const serveStatus = () => {
    if (local !== undefined) return;
    local = healthServer(agent, policyRoutes(cni?.policy));
    servers.push(local);
    ensureDirectory(dirname(socket));
    void keepSocket(local, socket, systemClock, log, signal);
  };
  const serveCni = () => {
    if (cni !== undefined) ensureDirectory(dirname(cni.socket));
    cni?.start();
  };
  try {
    if (config.health !== undefined) servers.push(await serveHealth(agent, config.health));
    // A start that is refused makes no directory; where there is one, the status tells what the start is waiting for.
    if (existsSync(dirname(socket))) serveStatus();
    if (cni !== undefined && existsSync(dirname(cni.socket))) serveCni();
    await agent.run(signal);
  } finally {
    await cni?.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    kernel.close();
  }
}

async function printDryRun(config: AgentConfig): Promise<void> {
  const log = openLog(config);
  const deps = { ...(await agentDeps(config, log)), kernel: openKernel() };
  const signal = stopSignal(log);
  const id = deps.identity.isKept() ? await deps.identity.keep(signal) : crypto.randomUUID();
  for (const line of await dryRun(deps, id, signal)) print(line);
}

async function runCleanup(config: AgentConfig): Promise<void> {
  const { subnetFile, dryRun, cni } = config;
  const kernel = openKernel();
  const places = openCniPlaces({ kernel, bootId: bootIdNow(), log: openLog(config) }, cni.socket);
  const programs = hostPrograms(process.env.PATH);
  await cleanup({ kernel, subnetFile, dryRun, programs, print, cni: places });
}

/** The client lies where the udp backend's program does. */
const installation = ({ cni: { executables, configuration, graceSeconds } }: AgentConfig) => ({
  client: fileURLToPath(new URL('../build/bin/flannel', import.meta.url)),
  executables,
  configuration,
  graceSeconds,
});

function runUninstallCni(config: AgentConfig): void {
  const { list } = config.cni;
  for (const path of uninstallCni(installation(config), list && readCniList(list))) print(`removed ${path}`);
}

/** @returns the exit code @throws NetError */
async function run(invocation: Invocation): Promise<number> {
  switch (invocation.command) {
    case 'help':
    case 'version':
      print(invocation.text.trimEnd());
      return 0;
    case 'status': {
      const { text, exitCode } = await statusReport(invocation.config.subnetFile, invocation.json, Date.now());
      process.stdout.write(text);
      return exitCode;
    }
    case 'policy':
      return await askPolicy(invocation.ask, (text) => void process.stdout.write(text));
    case 'docker-opts':
      writeDockerOptions(invocation.options, process.env, openKernel);
      return 0;
    case 'cleanup':
      await runCleanup(invocation.config);
      return 0;
    case 'install-cni':
      for (const path of installCni(installation(invocation.config))) print(`installed ${path}`);
      return 0;
    case 'uninstall-cni':
      runUninstallCni(invocation.config);
      return 0;
    case 'run':
      await (invocation.config.dryRun ? printDryRun(invocation.config) : runAgent(invocation.config));
      return 0;
  }
}

/** A pipe takes 64 KiB at a time; what it has not taken yet would be lost with the process. */
const flush = (): Promise<void> => new Promise((resolve) => process.stdout.write('', () => resolve()));

async function main(): Promise<void> {
  try {
    const exitCode = await run(parseArguments(process.argv.slice(2), process.env));
    await flush();
    process.exit(exitCode);
  } catch (error) {
    const { text, exitCode } = failureOf(error, process.argv.slice(2));
    process.stderr.write(text);
    process.exit(exitCode);
  }
}

// The installed script has no await of its own (bundle/main.ts).
void main();
