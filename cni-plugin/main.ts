// The executable: takes its name from FLANNEL_ARGV0, reads environment and standard input, prints one answer. What it
// loads before it knows the verb is small; VERSION needs nothing else.

import { fstatSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { NetError } from '../model/errors.ts';
import { type Answer, failure, versions } from './answer.ts';
import type { PluginName } from './attachments.ts';
import type { LinkRemover } from '../kernel/remove-links.ts';
import type { Request } from './protocol.ts';
import { VERSIONS } from './versions.ts';

/** A verb on one attachment takes milliseconds; behind another one on the same attachment it waits this long. */
const LOCK_TIMEOUT_MS = 10_000;

async function main(): Promise<Answer> {
  const { env } = process;
  const plugin = basename(env.FLANNEL_ARGV0 || 'flannel');
  if (!env.CNI_COMMAND) return about(plugin);
  if (env.CNI_COMMAND === 'VERSION') return versions();
  const { isPlugin } = await import('./verbs.ts');
  if (!isPlugin(plugin)) throw new NetError('invalid-environment', `no plugin is called ${JSON.stringify(plugin)}`);
  const { MAX_INPUT_BYTES, parseEnvironment, parseRequest } = await import('./protocol.ts');
  const invocation = parseEnvironment(env);
  return standAlone(plugin, parseRequest(invocation, await readInput(MAX_INPUT_BYTES)));
}

/** Called by a person without anything: says what it is, as client.c and the reference plugins do. */
function about(name: string): Answer {
  process.stderr.write(
    `CNI plugin ${name} (flannel-ts): executed by a container runtime, not by hand\n` +
      `CNI protocol versions supported: ${VERSIONS.join(', ')}\n`,
  );
  return { output: '', status: 0 };
}

/**
 * Standard input as text; one byte more than allowed is enough to refuse it.
 * @throws NetError io when it can't be read
 */
async function readInput(maxBytes: number): Promise<string> {
  // Node takes a directory for an empty file.
  if (fstatSync(0).isDirectory()) throw new NetError('io', 'error reading from stdin: EISDIR', { errno: 'EISDIR' });
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > maxBytes) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The verb in this process, with a kernel of its own. */
async function standAlone(plugin: PluginName, request: Request): Promise<Answer> {
  const [{ perform }, { openKernel }, { removeOwn }, { executeFrom, overheard }] = await Promise.all([
    import('./verbs.ts'),
    import('../kernel/open.ts'),
    import('./attach.ts'),
    import('./execute.ts'),
  ]);
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const kernel = openKernel();
  const remover = request.command === 'GC' ? await openRemover() : undefined;
  try {
    return await perform(plugin, request, {
      kernel,
      bootId,
      now: Date.now,
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      execute: overheard(executeFrom(request.path, process.env), (words) => process.stderr.write(words)),
      removeLink: remover?.remove ?? (async (link) => removeOwn(kernel, link)),
    });
  } finally {
    remover?.close();
    kernel.close();
  }
}

/** For many links, which are deleted in groups; loaded only then. */
async function openRemover(): Promise<LinkRemover> {
  const { openLinkRemover } = await import('../kernel/remove-links.ts');
  return openLinkRemover();
}

const { output, status } = await main().catch((error: unknown) => failure(error));
process.exitCode = status;
process.stdout.write(output);
