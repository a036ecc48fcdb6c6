// Other plugins, executed by this process: where it is what the runtime called, or no client is left to do it.

import { execute, findProgram } from '../kernel/execute.ts';
import { NetError } from '../model/errors.ts';
import { failure } from './answer.ts';
import type { Environment } from './protocol.ts';
import { MAX_INPUT_BYTES } from './protocol.ts';
import type { Dependencies } from './verbs.ts';
import type { Ending, Variables } from './wire.ts';

type Execute = Dependencies['execute'];

const TIMEOUT_MS = 60_000;

/** Executes plugins of these directories (CNI_PATH) with this environment and what is changed in it. */
export function executeFrom(directories: readonly string[], environment: Environment): Execute {
  return async (plugin: string, changes: Variables, input: string): Promise<Ending> => {
    try {
      const program = findProgram(plugin, directories);
      if (program === undefined) throw notFound(plugin, directories);
      const options = { input, timeoutMs: TIMEOUT_MS, maxBytes: MAX_INPUT_BYTES };
      return await execute(program, { environment: { ...environment, ...changes }, ...options });
    } catch (error) {
      return { ...failure(error), errors: '' };
    }
  };
}

/** In the reference's words. */
function notFound(plugin: string, directories: readonly string[]): NetError {
  const shown = JSON.stringify(plugin.slice(0, 128));
  return new NetError('invalid-config', `failed to find plugin ${shown} in path [${directories.join(' ')}]`, {
    subject: plugin,
  });
}

/** Hands on what plugins say on standard error, which belongs to the runtime's log. */
export const overheard =
  (run: Execute, hear: (words: string) => void): Execute =>
  async (...order) => {
    const ending = await run(...order);
    if (ending.errors !== '') hear(ending.errors);
    return ending;
  };
