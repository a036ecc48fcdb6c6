// Other plugins executed with a verb (spec 1.1.0, section 4: "Plugin Delegation"): same environment, a configuration on
// standard input, their error being the answer.

import { isObject, parseJson } from '../model/check.ts';
import { hasCode, NetError } from '../model/errors.ts';
import type { Attachment } from './attachments.ts';
import type { ForeignPlugin } from './foreign.ts';
import { inputForDel } from './foreign.ts';
import { type Command, DEPTH_VARIABLE, MOST_DEEP, type Request } from './protocol.ts';
import type { Undo } from './undo.ts';
import type { Dependencies } from './verbs.ts';
import type { Ending, Variables } from './wire.ts';

type Execute = Dependencies['execute'];

/** What a plugin may say about its failure in place of an error object, in characters. */
const MOST_WORDS = 1000;

/**
 * Executes plugins one at a time, each knowing by its environment how deep it is, so that none of ours waits for the verb
 * it is part of.
 */
export function executeWithin(execute: Execute, depth: number): Execute {
  let last: Promise<unknown> = Promise.resolve();
  return (plugin, changes, input) => {
    const ending = last.then(() => {
      if (depth < MOST_DEEP) return execute(plugin, { ...changes, [DEPTH_VARIABLE]: String(depth + 1) }, input);
      throw new NetError('invalid-config', `execute ${plugin}: plugins execute each other over ${MOST_DEEP} deep`, {
        subject: plugin,
      });
    });
    last = ending.catch(() => undefined);
    return ending;
  };
}

/**
 * Executes the plugin with the verb, and gives what it printed.
 * @throws NetError plugin-failed with its code, message and details; io when the runtime has gone
 */
export async function ask(
  { execute }: Pick<Dependencies, 'execute'>,
  { plugin, input }: Pick<ForeignPlugin, 'plugin' | 'input'>,
  verb: Command,
  changes: Variables = {},
): Promise<string> {
  const ending = await execute(plugin, { ...changes, CNI_COMMAND: verb }, input);
  if (ending.status !== 0) throw failureOf(plugin, verb, ending);
  return ending.output;
}

/** Spec 1.1.0, STATUS: not available; so with limits for the pods that are there. */
const NOT_READY: readonly unknown[] = [50, 51];

/**
 * STATUS of another plugin. Whatever keeps it from answering keeps ADD from succeeding.
 * @throws NetError not-ready, with the plugin's own code where that says so
 */
export async function askStatus(dependencies: Dependencies, plugin: ForeignPlugin): Promise<void> {
  try {
    await ask(dependencies, plugin, 'STATUS');
  } catch (error) {
    if (!hasCode(error, 'plugin-failed') || NOT_READY.includes(error.cni)) throw error;
    throw new NetError('not-ready', `plugin ${plugin.plugin}: ${error.message}`, {
      details: error.details,
      subject: plugin.plugin,
    });
  }
}

function failureOf(plugin: string, verb: Command, { status, output, errors }: Ending): NetError {
  const said = errorObject(output);
  if (said !== undefined) return new NetError('plugin-failed', said.msg, { ...said, subject: plugin });
  const words = errors.trim().slice(-MOST_WORDS) || 'it gave no reason';
  return new NetError('plugin-failed', `plugin ${plugin} failed ${verb} with status ${status}: ${words}`, {
    subject: plugin,
  });
}

function errorObject(output: string): { msg: string; cni: number; details?: string } | undefined {
  try {
    const value: unknown = JSON.parse(output);
    if (!isObject(value) || !Number.isSafeInteger(value.code) || typeof value.msg !== 'string') return undefined;
    const { code, msg, details } = value;
    return { msg, cni: code as number, ...(typeof details === 'string' && details !== '' && { details }) };
  } catch {
    return undefined;
  }
}

/**
 * ADD of another plugin: the JSON it printed. Whatever fails, then or later, its DEL follows; where it has answered with
 * an error, or was not executed, it has nothing left to delete, so that DEL may fail.
 * @throws NetError as {@link ask}; plugin-failed when what it printed is no JSON
 */
export async function askAdd(dependencies: Dependencies, plugin: ForeignPlugin, undo: Undo): Promise<unknown> {
  let refused = false;
  undo(async () => {
    const deleted = ask(dependencies, plugin, 'DEL');
    await (refused ? deleted.catch(() => undefined) : deleted);
  });
  try {
    return parseJson(await ask(dependencies, plugin, 'ADD'), nameOfResult(plugin), 'plugin-failed');
  } catch (error) {
    refused = error instanceof NetError && (error.cni !== undefined || error.code === 'invalid-config');
    throw error;
  }
}

export const nameOfResult = ({ plugin }: ForeignPlugin): string => `result of the plugin ${plugin}`;

/**
 * DEL of the plugin that has a part in the attachment, if any: within the attachment's own DEL with that one's
 * environment, else with the attachment's. @throws NetError as {@link ask}
 */
export async function endForeign(record: Attachment, dependencies: Dependencies, request?: Request): Promise<void> {
  const { foreign, containerId, ifname } = record;
  if (foreign === undefined) return;
  if (request !== undefined) {
    await ask(dependencies, { ...foreign, input: inputForDel(request, foreign) }, 'DEL');
    return;
  }
  const CNI_NETNS = netnsToName(record, dependencies);
  const attachment = { CNI_CONTAINERID: containerId, CNI_IFNAME: ifname, CNI_NETNS, CNI_ARGS: foreign.args };
  await ask(dependencies, foreign, 'DEL', attachment);
}

/** After a reboot, or by the number of a process, a path may lead to another pod: then none is named. */
const netnsToName = ({ bootId, netns }: Attachment, dependencies: Dependencies): string =>
  bootId === dependencies.bootId && !netns.path.startsWith('/proc/') ? netns.path : '';
