// What a runtime does around plugins, as libcni does it (containernetworking/cni, libcni/api.go): one version for the
// whole list, results handed from plugin to plugin and kept for CHECK and DEL, capabilities filtered.

import { atLeast, type CniVersion } from '../../cni-plugin/versions.ts';
import type { Answer, Attachment, Json, Verb } from './stage.ts';

export interface NetworkList {
  readonly cniVersion: CniVersion;
  readonly name: string;
  readonly disableCheck?: boolean;
  readonly disableGC?: boolean;
  /** In the order of ADD. */
  readonly plugins: readonly Json[];
}

export interface Container extends Attachment {
  readonly containerId: string;
  readonly ifname: string;
  /** By capability, whether a plugin declares it or not. */
  readonly capabilityArgs?: Json;
}

/** What identifies an attachment in a GC's list. */
export type Valid = Pick<Container, 'containerId' | 'ifname'>;

export type Execute = (verb: Verb, config: Json, attachment?: Attachment) => Promise<Answer>;

/** A plugin failed: its error object, or what it printed on standard error. */
export class PluginError extends Error {
  readonly type: string;
  readonly code: number | undefined;

  constructor(type: string, code: number | undefined, message: string) {
    super(`plugin ${type} failed: ${message}`);
    this.type = type;
    this.code = code;
  }
}

export interface Runtime {
  /** @throws PluginError; then nothing is cached */
  add(container: Container): Promise<Json>;
  /** Does nothing with disableCheck. @throws PluginError; Error before 0.4.0, or without a cached result */
  check(container: Container): Promise<void>;
  /** Backwards, with the cached result if there is one. @throws PluginError of the first that fails */
  del(container: Container): Promise<void>;
  /** Undefined: the runtime does not know which are valid. @throws AggregateError after everything was tried */
  gc(valid: readonly Valid[] | undefined): Promise<void>;
  /** @throws PluginError */
  status(): Promise<void>;
  /** The attachments with a cached result. */
  cached(): readonly Container[];
  /** Loses the cached result, as a runtime does whose /var/lib/cni was removed. */
  forget(container: Container): void;
}

interface Entry {
  readonly container: Container;
  readonly result: Json;
}

const keyOf = ({ containerId, ifname }: Valid): string => `${containerId}-${ifname}`;

function outputOf(config: Json, { code, stdout, stderr }: Answer): string {
  if (code === 0) return stdout;
  const type = String(config.type);
  if (stdout.trim() === '') throw new PluginError(type, undefined, stderr.trim());
  const error = JSON.parse(stdout) as { code?: number; msg?: string };
  throw new PluginError(type, error.code, error.msg ?? '');
}

/** runtimeConfig: what the plugin declares and the runtime has. */
function runtimeConfigOf({ capabilities }: Json, { capabilityArgs = {} }: Pick<Container, 'capabilityArgs'>): Json {
  const declared = Object.entries((capabilities ?? {}) as Json).filter(([, wanted]) => wanted === true);
  const given = declared.map(([name]) => [name, capabilityArgs[name]]).filter(([, value]) => value !== undefined);
  return given.length === 0 ? {} : { runtimeConfig: Object.fromEntries(given) };
}

export function runtimeOf(list: NetworkList, execute: Execute): Runtime {
  const { cniVersion, name, plugins } = list;
  const cache = new Map<string, Entry>();

  const configOf = (plugin: Json, container: Pick<Container, 'capabilityArgs'>, result: Json | undefined): Json => ({
    ...plugin,
    name,
    cniVersion,
    ...runtimeConfigOf(plugin, container),
    ...(result !== undefined && { prevResult: result }),
  });

  /** The verb on each of the plugins in turn, all with that result. */
  async function onEach(verb: Verb, order: readonly Json[], container: Container, result: Json | undefined) {
    for (const plugin of order) {
      const config = configOf(plugin, container, result);
      outputOf(config, await execute(verb, config, container));
    }
  }

  async function add(container: Container): Promise<Json> {
    let result: Json | undefined;
    for (const plugin of plugins) {
      const config = configOf(plugin, container, result);
      result = JSON.parse(outputOf(config, await execute('ADD', config, container))) as Json;
    }
    cache.set(keyOf(container), { container, result: result ?? {} });
    return result ?? {};
  }

  async function check(container: Container): Promise<void> {
    if (!atLeast(cniVersion, '0.4.0')) throw new Error(`configuration version ${cniVersion} does not support CHECK`);
    if (list.disableCheck === true) return;
    const entry = cache.get(keyOf(container));
    if (entry === undefined) throw new Error('no cached result');
    await onEach('CHECK', plugins, container, entry.result);
  }

  async function del(container: Container): Promise<void> {
    const result = atLeast(cniVersion, '0.4.0') ? cache.get(keyOf(container))?.result : undefined;
    await onEach('DEL', plugins.toReversed(), container, result);
    cache.delete(keyOf(container));
  }

  async function gc(valid: readonly Valid[] | undefined): Promise<void> {
    if (list.disableGC === true) return;
    const errors: unknown[] = [];
    const attempt = (action: Promise<unknown>) => action.catch((error: unknown) => void errors.push(error));
    const kept = new Set(valid?.map(keyOf));
    const stale = valid === undefined ? [] : [...cache.values()].filter(({ container }) => !kept.has(keyOf(container)));
    for (const { container } of stale) await attempt(del(container));
    if (atLeast(cniVersion, '1.1.0')) for (const plugin of plugins) await attempt(collect(plugin, valid));
    if (errors.length > 0) throw new AggregateError(errors, errors.map(String).join('; '));
  }

  /** libcni writes the list under its first, wrong name too, for older plugins. */
  async function collect(plugin: Json, valid: readonly Valid[] | undefined): Promise<void> {
    const listed = valid?.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
    const keys = listed === undefined ? {} : { 'cni.dev/valid-attachments': listed, 'cni.dev/attachments': listed };
    const config = { ...configOf(plugin, {}, undefined), ...keys };
    outputOf(config, await execute('GC', config));
  }

  async function status(): Promise<void> {
    if (!atLeast(cniVersion, '1.1.0')) return;
    for (const plugin of plugins) {
      const config = configOf(plugin, {}, undefined);
      outputOf(config, await execute('STATUS', config));
    }
  }

  return {
    add,
    check,
    del,
    gc,
    status,
    cached: () => [...cache.values()].map(({ container }) => container),
    forget: (container) => void cache.delete(keyOf(container)),
  };
}
