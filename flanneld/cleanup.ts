// `flanneld cleanup`: takes away what the agent made for the Networks of a subnet file: devices, routes, rules, the file
// itself. What belongs to another Network stays, and so do the node's identity and its lease, which passes by itself.

import type { Kernel } from '../kernel/kernel.ts';
import { removeIfThere, statIfThere } from '../kernel/files.ts';
import { diff } from '../model/diff.ts';
import { describe, NetError } from '../model/errors.ts';
import { familyOf, type Prefix } from '../model/ip.ts';
import type { Transaction } from '../model/ruleset.ts';
import { EMPTY_STATE } from '../model/state.ts';
import type { Step } from '../model/steps.ts';
import { applyDifference, printDifference } from './difference.ts';
import type { Programs } from './firewall/programs.ts';
import { firewallRemoval, makeFirewallChanges, printFirewallChanges } from './firewall/changes.ts';
import { ownership } from './ownership.ts';
import { failureTexts } from './peer-status.ts';
import { FLANNEL_TABLE, removeRules } from './rules/table.ts';
import { answers, removeSocket, statusSocketPath } from './status-socket.ts';
import { readPrevious } from './subnet-file.ts';

export interface CleanupOptions {
  readonly kernel: Kernel;
  readonly subnetFile: string;
  readonly dryRun: boolean;
  readonly programs: Programs;
  /** Told each line as it is done, or would be. */
  readonly print: (line: string) => void;
}

/** @throws NetError busy while an agent runs; kernel naming everything that could not be removed */
export async function cleanup({ kernel, subnetFile, dryRun, programs, print }: CleanupOptions): Promise<void> {
  const socket = statusSocketPath(subnetFile);
  if (!dryRun && (await answers(socket))) {
    throw new NetError('busy', `flanneld is running and would put everything back: stop it first (${socket} answers)`, {
      subject: socket,
    });
  }
  if (statIfThere(subnetFile) === undefined) return print(`# ${subnetFile} is not there: nothing to clean up`);
  const { networks } = readPrevious(subnetFile);
  const removal = removalOf(kernel, networks);
  const opened = await firewallRemoval(kernel, programs, networks);
  for (const line of [...printDifference(removal), ...printFirewallChanges(opened), `rm -f ${subnetFile} ${socket}`])
    print(line);
  if (dryRun) return;
  const { failures, rulesError } = applyDifference(kernel, removal);
  const problems = [
    ...(rulesError === undefined ? [] : [describe(rulesError)]),
    ...failureTexts(failures).values(),
    ...(await makeFirewallChanges(kernel, programs, opened)),
  ];
  // The file says what is ours: it goes last, and only when nothing else is left.
  if (problems.length > 0) throw new NetError('kernel', problems.join('; '), { subject: subnetFile });
  removeSocket(socket);
  removeIfThere(subnetFile);
}

interface Removal {
  readonly steps: readonly Step[];
  readonly transaction: Transaction | undefined;
}

/** What takes the Networks' entries away. Only reads. @throws NetError kernel */
export function removalOf(kernel: Kernel, networks: readonly Prefix[]): Removal {
  const have = kernel.read(kernel.host, {
    links: 'all',
    addresses: 'all',
    routes: { families: [...new Set(networks.map(familyOf))] },
  });
  const owns = ownership(have, { networks, devices: [], gateways: [] });
  return {
    steps: diff(have, EMPTY_STATE, owns),
    transaction: removeRules(kernel.readTable(FLANNEL_TABLE.family, FLANNEL_TABLE.name), networks),
  };
}
