// flanneld, the executable: reads the command line, puts the parts together, turns signals into a clean stop and errors into
// one line and an exit code.

import { existsSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname } from 'node:path';
import { type Logger, pino } from 'pino';
import { ensureDirectory } from '../kernel/files.ts';
import { openKernel } from '../kernel/open.ts';
import { asNetError, describe, ERRORS } from '../model/errors.ts';
import { type AgentDeps, createAgent } from './agent.ts';
import { cleanup } from './cleanup.ts';
import { systemClock } from './clock.ts';
import { type AgentConfig, type Invocation, parseArguments } from './config.ts';
import { dryRun } from './dry-run.ts';
import { healthServer, serveHealth } from './health.ts';
import { humanLine } from './human-log.ts';
import type { Log } from './log.ts';
import { nodeId } from './node-id.ts';
import { statusReport } from './status.ts';
import { keepSocket, statusSocketPath } from './status-socket.ts';
import { openEtcd } from './subnet/etcd.ts';

/** Whatever still hangs then: a stop is fast. */
const STOP_MS = 1500;

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** Written at once, so that the last line before an exit is not lost. */
function openLog({ verbosity }: AgentConfig): Logger {
  const write = (line: string) => void process.stderr.write(process.stderr.isTTY ? humanLine(line) : line);
  return pino({ base: null, level: verbosity > 0 ? 'debug' : 'info' }, { write });
}

function stopSignal(log: Log): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(0);
      log.info({}, `${name}: stopping; routes, rules and lease stay`);
      controller.abort(new Error(name));
      setTimeout(() => process.exit(0), STOP_MS).unref();
    });
  }
  return controller.signal;
}

function agentDeps(config: AgentConfig, log: Log): Omit<AgentDeps, 'kernel'> {
  return {
    config,
    log,
    clock: systemClock,
    identity: { isKept: () => existsSync(config.nodeIdFile), keep: () => nodeId(config.nodeIdFile) },
    openManager: (id) =>
      openEtcd({
        etcd: config.etcd,
        nodeId: id,
        renewMarginMinutes: config.renewMarginMinutes,
        report: (trouble) => log.warn({}, describe(trouble)),
      }),
  };
}

async function runAgent(config: AgentConfig): Promise<void> {
  const log = openLog(config);
  const signal = stopSignal(log);
  const kernel = openKernel();
  const agent = createAgent({ ...agentDeps(config, log), kernel, onAccepted: () => serveStatus() });
  const servers: Server[] = [];
  const socket = statusSocketPath(config.subnetFile);
  let local: Server | undefined;
  const serveStatus = () => {
    if (local !== undefined) return;
    local = healthServer(agent);
    servers.push(local);
    ensureDirectory(dirname(socket));
    void keepSocket(local, socket, systemClock, log, signal);
  };
  try {
    if (config.health !== undefined) servers.push(await serveHealth(agent, config.health));
    // A start that is refused makes no directory; where there is one, the status tells what the start is waiting for.
    if (existsSync(dirname(socket))) serveStatus();
    await agent.run(signal);
  } finally {
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    kernel.close();
  }
}

async function printDryRun(config: AgentConfig): Promise<void> {
  const log = openLog(config);
  const deps = { ...agentDeps(config, log), kernel: openKernel() };
  const id = deps.identity.isKept() ? deps.identity.keep() : crypto.randomUUID();
  for (const line of await dryRun(deps, id, stopSignal(log))) print(line);
}

async function runCleanup({ subnetFile, dryRun }: AgentConfig): Promise<void> {
  await cleanup({ kernel: openKernel(), subnetFile, dryRun, print });
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
    case 'cleanup':
      await runCleanup(invocation.config);
      return 0;
    case 'run':
      await (invocation.config.dryRun ? printDryRun(invocation.config) : runAgent(invocation.config));
      return 0;
  }
}

/** A pipe takes 64 KiB at a time; what it has not taken yet would be lost with the process. */
const flush = (): Promise<void> => new Promise((resolve) => process.stdout.write('', () => resolve()));

try {
  const exitCode = await run(parseArguments(process.argv.slice(2), process.env));
  await flush();
  process.exit(exitCode);
} catch (error) {
  const { code } = asNetError(error);
  process.stderr.write(`flanneld: ${describe(error)} (${ERRORS[code].hint})\n`);
  process.exit(1);
}
