// NetworkPolicy in the agent: what the source and the attachments say is compiled and kept in force. A pod is admitted,
// its ADD goes on, when its policies are in force; that is before its device exists, so there is no moment at which it
// could send or be reached otherwise.

import type { Attachment } from '../../cni-plugin/attachments.ts';
import type { PodName } from '../../cni-plugin/names.ts';
import type { SourceGuard } from '../../cni-plugin/source-guard.ts';
import type { Change, Kernel } from '../../kernel/kernel.ts';
import { describe, NetError } from '../../model/errors.ts';
import { FAMILIES, type Ip } from '../../model/ip.ts';
import { type Clock, gathered } from '../clock.ts';
import type { Log } from '../log.ts';
import { admission, type Knowledge } from './admission.ts';
import { type ApplierStatus, createApplier } from './apply.ts';
import { askedPods, isKnown } from './asked-pods.ts';
import { type AttachedPods, attachedOf, attachmentKey } from './attached.ts';
import { policyBypass } from './bypass.ts';
import { type Compiled, createCompiler, type UnknownPod } from './compile.ts';
import { createDenialCount, type Denials } from './denials.ts';
import { foreignAddresses } from './foreign.ts';
import { keepGuard } from './guard-keeper.ts';
import { invalidPolicies } from './invalid.ts';
import { type Direction, keyOf, type Objects } from './objects.ts';
import { traceLine } from './named.ts';
import type { NodeChoice } from '../kube/options.ts';
import type { PolicyAnswers } from './routes.ts';
import type { PolicySource } from './source.ts';
import { deniedSet, POLICY_TABLE } from './table.ts';
import { createTracer, type ListenToLog } from './trace.ts';
import { why } from './why.ts';
import { EMPTY_WORLD, type World, worldOf } from './world.ts';

export interface PolicyDeps {
  readonly source: PolicySource;
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly log: Log;
  readonly established: 'cut' | 'keep';
  readonly unknownPod: UnknownPod;
  /** Which node this is, for pods that another plugin has attached to it; undefined: none of them is known. */
  readonly node: NodeChoice | undefined;
  readonly sources: SourceGuard;
  /** Reads the attachments of this node. @throws NetError io */
  readAttached(): AttachedPods;
  /** Whether samples of what is dropped are logged, to be traced. */
  readonly logDenied: boolean;
  readonly listenToLog: ListenToLog;
  /** Packets by address that a set of the host's table has counted. @throws NetError kernel */
  readCounters(table: string, set: string): ReadonlyMap<Ip, number>;
  /** Called once, when the first whole state is in force. */
  readonly onSettled?: (() => void) | undefined;
  /** How long an ADD waits, in milliseconds. */
  readonly admitMs?: number | undefined;
}

/** The part of /status. */
export interface PolicyStatus extends ApplierStatus {
  readonly source: string;
  /** Whether the source has been read whole at least once. */
  readonly synced: boolean;
  readonly policies: number;
  /** Pods of this node that some policy isolates, and the distinct sets of policies that do, by direction. */
  readonly isolatedAddresses: number;
  readonly isolatedPods: number;
  readonly profiles: number;
  /** Policies that can't be understood, with the reason; they isolate and allow nothing by what isn't understood. */
  readonly invalid: readonly string[];
  /** Packets that were dropped, as counted by the kernel at this moment. */
  readonly denied: Denials;
  /** What is the matter with the source; the last state that was whole holds. */
  readonly sourceTrouble?: string | undefined;
}

export interface PolicyService extends PolicyAnswers {
  /** Enforces until the signal aborts; what is in force then stays. Never throws. */
  run(signal: AbortSignal): Promise<void>;
  /** As the plugin's Dependencies.admit. @throws NetError try-later naming what is missing */
  admit(attachment: Attachment): Promise<void>;
  /** As the plugin's Dependencies.sources. */
  readonly sources: SourceGuard;
  /** Some attachments may have ended. */
  refresh(): void;
  /** Puts right what isn't as it should be without having been told of. Never throws. */
  look(): void;
  /** Why traffic of pods isn't judged as it should be; undefined when it is. */
  unreadiness(): string | undefined;
  status(): PolicyStatus;
}

const ADMIT_MS = 10_000;
/** Several deletions make one reading of the records, several changes one of the tables. */
const REFRESH_MS = 200;

/** Enforces nothing before it is run. */
export function createPolicyService(deps: PolicyDeps): PolicyService {
  const { source, kernel, clock, log, admitMs = ADMIT_MS } = deps;
  const stop = new AbortController();
  const applier = createApplier({ ...deps, signal: stop.signal });
  const compile = createCompiler(deps.unknownPod, deps.logDenied);
  const tracer = createTracer(deps.listenToLog);
  const readDenials = denialReader(deps);
  const asked = askedPods(source, clock, log);
  const invalid = invalidPolicies(source, log);
  const guard = keepGuard({ ...deps, foreign: () => foreignAddresses(world, attached.values()) });
  let told: Objects | undefined;
  /** Those, and pods that were asked for. */
  let objects: Objects | undefined;
  let node: string | undefined;
  let attached: AttachedPods = new Map();
  let world: World = EMPTY_WORLD;
  let compiled: Compiled | undefined;
  let sourceTrouble: string | undefined;
  let isSettled = false;
  let news = Promise.withResolvers<void>();
  const lookSoon = gathered(clock, REFRESH_MS, stop.signal, guard.look);
  const readSoon = gathered(clock, REFRESH_MS, stop.signal, read);

  /** Undefined before the source has told anything: then what is in force is left alone. */
  function enforce(): Promise<boolean> | undefined {
    if (objects === undefined) return undefined;
    node ??= nodeName(deps.node, objects);
    world = worldOf(objects, [...attached.values()], node, world);
    compiled = compile(world);
    invalid.tell(objects.policies, world, node);
    return applier.want(compiled);
  }

  function onObjects(now: Objects): void {
    told = now;
    invalid.see(now.policies);
    tell();
  }

  function tell(): void {
    objects = told && asked.addTo(told);
    void enforce()?.then(settle);
    news.resolve();
    news = Promise.withResolvers();
    if (guard.hasOthers()) lookSoon();
  }

  function settle(isInForce: boolean): void {
    if (!isInForce || isSettled) return;
    isSettled = true;
    deps.onSettled?.();
  }

  function onTrouble(trouble: unknown): void {
    const text = trouble === undefined ? undefined : describe(trouble);
    if (text !== undefined && text !== sourceTrouble)
      log.warn({}, `network policy: ${text}; the last whole state holds`);
    sourceTrouble = text;
  }

  function read(): void {
    try {
      attached = deps.readAttached();
      asked.keep([...attached.values()]);
      void enforce();
    } catch (error) {
      log.warn({}, `network policy: read attachments: ${describe(error)}`);
    }
  }

  /** Why it can't be said yet what holds for a pod; undefined when it can. */
  function undecided(pod: PodName): string | undefined {
    if (objects === undefined)
      return `${source.title} has not been read yet${sourceTrouble ? `: ${sourceTrouble}` : ''}`;
    const view = world.namespaces.get(pod.namespace);
    const matters = deps.unknownPod === 'closed' && (view?.policies.length ?? 0) > 0;
    const known = objects.pods.some((told) => isKnown(pod, told));
    return known || !matters || asked.isUnanswered(pod)
      ? undefined
      : `${source.title} has no Pod ${keyOf(pod)}${pod.uid === undefined ? '' : ` with the uid ${pod.uid}`}, in whose namespace there are policies`;
  }

  const knowledge: Knowledge = {
    isThere: () => objects !== undefined,
    undecided,
    async ask(pod, signal) {
      if (await asked.ask(pod, signal)) tell();
    },
    news: () => news.promise,
    enforce,
    trouble: () => applier.status().trouble,
  };

  return {
    sources: deps.sources,
    async run(signal) {
      const unwatch = kernel.watch((change: Change) => {
        applier.onChange(change);
        if (guard.matters(change)) lookSoon();
      });
      signal.addEventListener('abort', () => stop.abort());
      guard.look();
      read();
      try {
        await source.watch({ onObjects, onTrouble }, signal);
      } finally {
        stop.abort();
        unwatch();
      }
    },

    async admit(attachment) {
      const own = attachedOf(attachment);
      if (own === undefined) return;
      // An address that is given again was given back.
      for (const [key, other] of attached) {
        if (other.addresses.some((address) => own.addresses.includes(address))) attached.delete(key);
      }
      attached.set(attachmentKey(attachment), own);
      const ending = new AbortController();
      const cancel = clock.after(admitMs, () => ending.abort());
      stop.signal.addEventListener('abort', () => ending.abort());
      try {
        await admission(own, knowledge, ending.signal);
      } catch (error) {
        attached.delete(attachmentKey(attachment));
        void enforce();
        throw error;
      } finally {
        cancel();
        ending.abort();
      }
    },

    refresh: readSoon,

    look() {
      readSoon();
      lookSoon();
    },

    unreadiness() {
      const { current, trouble } = applier.status();
      if (objects === undefined) return `network policy: ${undecided({ namespace: '', name: '' })}`;
      if (!current && trouble !== undefined) return `network policy: ${trouble}`;
      if (guard.trouble() !== undefined) return `network policy: ${guard.trouble()}`;
      return compiled?.empty === false ? policyBypass(kernel, deps.sources.bridges()) : undefined;
    },

    why: (question) =>
      why(question, {
        world,
        unknownPod: deps.unknownPod,
        table: kernel.readTable(POLICY_TABLE.family, POLICY_TABLE.name),
      }),

    trace(onLine) {
      if (!deps.logDenied) throw new NetError('not-ready', 'the agent runs without --policy-log-denied');
      return tracer.follow((dropped) => onLine(traceLine(dropped, world, new Date(clock.now()).toISOString())));
    },

    status: () => ({
      ...applier.status(),
      source: source.title,
      synced: objects !== undefined,
      policies: objects?.policies.length ?? 0,
      ...isolation(compiled),
      invalid: invalid.all(),
      denied: readDenials(world),
      sourceTrouble,
    }),
  };
}

/** Reads the counters; nothing where there is no table. A kernel that refuses leaves what was read last. */
function denialReader({ readCounters, log }: Pick<PolicyDeps, 'readCounters' | 'log'>): (world: World) => Denials {
  const denials = createDenialCount();
  let last: Denials = { totals: { ingress: 0, egress: 0 }, pods: [] };
  const counts = (direction: Direction) =>
    new Map(FAMILIES.flatMap((family) => [...readCounters(POLICY_TABLE.name, deniedSet(direction, family))]));
  return ({ endpoints }) => {
    try {
      last = denials.see({ ingress: counts('ingress'), egress: counts('egress') }, endpoints);
    } catch (error) {
      log.debug({}, `network policy: ${describe(error)}`);
    }
    return last;
  };
}

/** Undefined while that is not known. */
function nodeName(choice: NodeChoice | undefined, { pods }: Objects): string | undefined {
  if (choice === undefined || 'node' in choice) return choice?.node;
  return pods.find(({ namespace, name }) => name === choice.pod && namespace === choice.namespace)?.node;
}

/** How many pods of this node are isolated. */
function isolation(compiled: Compiled | undefined) {
  const isolated = new Set([...(compiled?.chains.ingress.keys() ?? []), ...(compiled?.chains.egress.keys() ?? [])]);
  const isIsolated = (address: Ip) => isolated.has(address);
  return {
    isolatedAddresses: isolated.size,
    isolatedPods: (compiled?.pods ?? []).filter((addresses) => addresses.some(isIsolated)).length,
    profiles: compiled?.profiles.length ?? 0,
  };
}
