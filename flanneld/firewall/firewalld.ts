// firewalld rejects whatever is of no zone that it was told to let through, in a table that it makes anew at every reload.
// So it is told: the Network becomes a source of its zone "trusted". For as long as firewalld runs, that is: what it keeps on
// disk is the operator's, and after a reload it is told again.

import type { Prefix } from '../../model/ip.ts';
import type { Programs } from './programs.ts';

const PROGRAM = 'firewall-cmd';
const ZONE = '--zone=trusted';

/** Adds the Network. Gives what went wrong; nothing also when there is no firewall-cmd: then it is only reported. */
export async function trust(programs: Programs, network: Prefix): Promise<'trusted' | 'absent' | { trouble: string }> {
  const program = programs.find(PROGRAM);
  if (program === undefined) return 'absent';
  const args = trustWords(network).slice(1);
  const { status, errors, output } = await programs.run(program, args);
  if (status === 0) return 'trusted';
  const said = (errors.trim() || output.trim()).split('\n').at(-1) ?? '';
  return { trouble: `${PROGRAM} ${args.join(' ')}: exit code ${status}: ${said}` };
}

/** Whether it was the agent that added the Network: it is there, and not in what firewalld keeps on disk. */
export async function isTrustedByUs(programs: Programs, network: Prefix): Promise<boolean> {
  const program = programs.find(PROGRAM);
  if (program === undefined) return false;
  const query = [ZONE, `--query-source=${network}`];
  const now = await programs.run(program, query);
  if (now.status !== 0) return false;
  return (await programs.run(program, ['--permanent', ...query])).status !== 0;
}

/** What adds the Network: the program and its arguments. */
export const trustWords = (network: Prefix): string[] => [PROGRAM, ZONE, `--add-source=${network}`];

/** What takes it out again. */
export const distrust = (network: Prefix): string[] => [PROGRAM, ZONE, `--remove-source=${network}`];
