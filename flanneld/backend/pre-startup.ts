// The extension backend's first command: what it prints is what the peers' commands get on their standard input.

import type { Execute } from '../../kernel/execute.ts';
import type { PerFamily } from '../../model/lease.ts';
import type { Prepared } from '../prepare.ts';
import type { Command } from './command-words.ts';
import { environmentOf, publishedText } from './extension.ts';
import { runCommand } from './run-command.ts';

/** The BackendData to publish. @throws NetError command-failed */
export async function runPreStartup(
  run: Execute,
  { site, backend, attributes }: Pick<Prepared, 'site' | 'backend' | 'attributes'>,
  signal: AbortSignal,
): Promise<PerFamily<unknown>> {
  const printed = await runCommand(run, {
    key: 'PreStartupCommand',
    command: backend.commands?.preStartup as Command,
    environment: environmentOf(site.networks, attributes),
    input: '',
    signal,
  });
  return publishedText(site.networks, printed);
}
