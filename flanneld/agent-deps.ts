// What the agent is given, besides the leases: the machine, its configuration, and whatever runs beside the loop.

import type { Execute } from '../kernel/execute.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { OpenEchoes } from '../kernel/probe.ts';
import type { ProxyDeps } from './backend/proxy-keeper.ts';
import type { Clock } from './clock.ts';
import type { AgentConfig } from './config.ts';
import type { Programs } from './firewall/programs.ts';
import type { Log } from './log.ts';
import type { SubnetManager } from './subnet/manager.ts';

export interface AgentDeps {
  readonly kernel: Kernel;
  readonly config: AgentConfig;
  readonly log: Log;
  readonly clock: Clock;
  /** Connects when first used. */
  openManager(nodeId: string): SubnetManager;
  /** The node's identity: whether there is one, and making it (or asking for it) where there is none. */
  readonly identity: { isKept(): boolean; keep(signal: AbortSignal): string | Promise<string> };
  /** Called once, when the configuration has proved usable and before anything else is changed. */
  readonly onAccepted?: (() => void) | undefined;
  /** Called once, when two runs, one after the other, have found everything in its place. */
  readonly onSettled?: (() => void) | undefined;
  /** Milliseconds that removals wait after a snapshot without our own lease; those of known-peers.ts by default. */
  readonly graceMs?: number | undefined;
  /** The program of the udp backend. */
  readonly proxy?: ProxyDeps | undefined;
  /** Runs the commands of the extension backend. */
  readonly execute?: Execute | undefined;
  /** Without it no peer is probed. */
  readonly openEchoes?: OpenEchoes | undefined;
  /** Programs that packet filters are reached by; without them only nft's tables are. */
  readonly programs?: Programs | undefined;
}
