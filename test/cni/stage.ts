// What a row acts on: a machine of its own (network and mount namespace, own /run and /var/lib) with pods, in which it
// executes plugins as a runtime does: environment and standard input in, standard output and exit status out.

import { join } from 'node:path';
import type { CniVersion } from '../../cni-plugin/versions.ts';
import type { Machine } from '../../examples/cluster/machine.ts';
import { type NetState, observe } from './observe.ts';
import type { Role, Target } from './target.ts';

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION';
export type Json = Readonly<Record<string, unknown>>;

/** A plugin's answer. */
export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Which container and interface; what is absent is empty. */
export interface Attachment {
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifname?: string;
  /** CNI_ARGS. */
  readonly args?: string;
}

export interface Stage {
  readonly target: Target;
  readonly version: CniVersion;
  readonly machine: Machine;
  /** A configuration with cniVersion, name and type. */
  config(plugin: string, keys?: Json): Json;
  /** Executes a plugin: a role's program out of the directory under test, any other name out of the foreign one. */
  cni(plugin: string, verb: Verb, config: Json, attachment?: Attachment): Promise<Answer>;
  /** The same with the environment as given: CNI_* variables that are absent are empty. */
  execute(plugin: string, environment: Readonly<Record<string, string>>, input: string): Promise<Answer>;
  /** Makes a namespace, and returns its path. */
  pod(name?: string): Promise<string>;
  /** Links, addresses and routes of the host, or of a pod. */
  observe(pod?: string): Promise<NetState>;
  /** Runs a shell script that must succeed, and returns what it printed. */
  sh(script: string): Promise<string>;
}

/** The name of the network in every configuration. */
export const NETWORK = 'testnet';
const POD = 'pod';
export const podPath = (name = POD): string => `/run/netns/${name}`;

/** A directory on CNI_PATH for plugins that a row makes itself. */
export const PLUGINS = '/run/plugins';

/** Everything a plugin reads of CNI, empty: nothing of the caller's own environment must reach it. */
const EMPTY = { CNI_COMMAND: '', CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '', CNI_PATH: '' };
/** A Node.js process of ours starts in a third of the time with it. */
export const CACHE = { NODE_COMPILE_CACHE: join(import.meta.dirname, '../../build/test/compile-cache') };

const isRole = (plugin: string, { programs }: Target): plugin is Role => Object.hasOwn(programs, plugin);

/** The stage that a machine is. */
export function stageOn(machine: Machine, target: Target, version: CniVersion): Stage {
  const programOf = (plugin: string) => (isRole(plugin, target) ? target.programs[plugin] : plugin);
  const directoryOf = (plugin: string) => (isRole(plugin, target) ? target.directory : target.foreign);

  const execute: Stage['execute'] = (plugin, environment, input) =>
    machine.run(join(directoryOf(plugin), programOf(plugin)), [], {
      env: { ...EMPTY, ...CACHE, ...environment },
      input,
    });

  return {
    target,
    version,
    machine,
    execute,
    config: (plugin, keys = {}) => ({ cniVersion: version, name: NETWORK, type: programOf(plugin), ...keys }),
    cni: (plugin, verb, config, { containerId = 'c1', netns = podPath(), ifname = 'eth0', args = '' } = {}) => {
      const own = verb === 'ADD' || verb === 'DEL' || verb === 'CHECK';
      const attachment = own && {
        CNI_CONTAINERID: containerId,
        CNI_NETNS: netns,
        CNI_IFNAME: ifname,
        CNI_ARGS: args,
      };
      return execute(
        plugin,
        { CNI_COMMAND: verb, ...attachment, CNI_PATH: `${target.path}:${PLUGINS}` },
        JSON.stringify(config),
      );
    },
    async pod(name = POD) {
      await machine.must('ip', ['netns', 'add', name]);
      return podPath(name);
    },
    observe: (pod) => observe(machine, pod),
    sh: (script) => machine.must('sh', ['-ec', script]),
  };
}
