// `flanneld cleanup`: takes away what the agent made for the Networks of a subnet file: devices, routes, rules, the file
// itself; and what the CNI plugin left, unless pods are attached. What belongs to another Network stays, and so do the
// node's identity and its lease, which passes by itself.

import { SPOOF_TABLE } from '../cni-plugin/spoof.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { statIfThere } from '../kernel/files.ts';
import { diff } from '../model/diff.ts';
import { describe, NetError } from '../model/errors.ts';
import { familyOf, type Prefix } from '../model/ip.ts';
import type { OwnsName, Transaction } from '../model/ruleset.ts';
import { EMPTY_STATE } from '../model/state.ts';
import type { Step } from '../model/steps.ts';
import { applyDifference, printDifference } from './difference.ts';
import type { Programs } from './firewall/programs.ts';
import { firewallRemoval, makeFirewallChanges, printFirewallChanges } from './firewall/changes.ts';
import { ownership } from './ownership.ts';
import { failureTexts } from './peer-status.ts';
import { FLANNEL_TABLE, ownsChains, removeRules } from './rules/table.ts';
import { type CniPlaces, cniRemains, removeRemains } from './cni/cleanup.ts';
import { answers, statusSocketPath } from './status-socket.ts';
import { grantsPath } from './subnet/grants.ts';
import { readPrevious } from './subnet-file.ts';

export interface CleanupOptions {
  readonly kernel: Kernel;
  readonly subnetFile: string;
  readonly dryRun: boolean;
  readonly programs: Programs;
  readonly cni: CniPlaces;
  /** Told each line as it is done, or would be. */
  readonly print: (line: string) => void;
}

/** @throws NetError busy while an agent runs; kernel naming everything that could not be removed */
export async function cleanup({ kernel, subnetFile, dryRun, programs, cni, print }: CleanupOptions): Promise<void> {
  const socket = statusSocketPath(subnetFile);
  if (!dryRun && (await answers(socket))) {
    throw new NetError('busy', `flanneld is running and would put everything back: stop it first (${socket} answers)`, {
      subject: socket,
    });
  }
  const { networks } = readPrevious(subnetFile);
  const remains = await cniRemains(cni, dryRun);
  for (const note of remains.notes) print(`# ${note}`);
  const ours = [socket, grantsPath(subnetFile), subnetFile].filter((path) => statIfThere(path) !== undefined);
  const paths = [...remains.paths, ...ours];
  const removals = [removalOf(kernel, networks, remains.owns), guardRemoval(kernel, remains.owns)];
  const opened = await firewallRemoval(kernel, programs, networks);
  const lines = [...removals.flatMap(printDifference), ...printFirewallChanges(opened), ...paths.map(removeLine)];
  if (lines.length === 0) return print(`# ${subnetFile} is not there: nothing to clean up`);
  for (const line of lines) print(line);
  if (dryRun) return;
  const problems = [
    ...removals.flatMap((removal) => remove(kernel, removal)),
    ...(await makeFirewallChanges(kernel, programs, opened)),
  ];
  // The file says what is ours: it goes last, and only when nothing else is left.
  if (problems.length > 0) throw new NetError('kernel', problems.join('; '), { subject: subnetFile });
  for (const path of paths) removeRemains(path);
}

const removeLine = (path: string): string => (statIfThere(path)?.isDirectory() ? `rmdir ${path}` : `rm -f ${path}`);

interface Removal {
  readonly steps: readonly Step[];
  readonly transaction: Transaction | undefined;
}

/** Removes what it can, and gives what failed in words. */
function remove(kernel: Kernel, removal: Removal): string[] {
  const { failures, rulesError } = applyDifference(kernel, removal);
  return [...(rulesError === undefined ? [] : [describe(rulesError)]), ...failureTexts(failures).values()];
}

/** What takes the guards of pods' ports away (`macspoofchk`). Only reads. @throws NetError kernel */
const guardRemoval = (kernel: Kernel, owns: OwnsName): Removal => ({
  steps: [],
  transaction: removeRules(kernel.readTable(SPOOF_TABLE.family, SPOOF_TABLE.name), owns),
});

/** What takes the Networks' entries away, and other chains and sets that are owned. Only reads. @throws NetError kernel */
function removalOf(kernel: Kernel, networks: readonly Prefix[], ownsOther: OwnsName): Removal {
  const ownsChain = ownsChains(networks);
  const have = kernel.read(kernel.host, {
    links: 'all',
    addresses: 'all',
    routes: { families: [...new Set(networks.map(familyOf))] },
  });
  const owns = ownership(have, { networks, devices: [], gateways: [] });
  return {
    steps: diff(have, EMPTY_STATE, owns),
    transaction: removeRules(
      kernel.readTable(FLANNEL_TABLE.family, FLANNEL_TABLE.name),
      (name) => ownsChain(name) || ownsOther(name),
    ),
  };
}
