// What the CNI plugin and its server leave on a host, for `flanneld cleanup`. As long as pods are attached their rules and
// records stay: without them, their deletions would leave more behind than cleanup found.

import { listDirectory, removeDirectory, removeIfThere, statIfThere } from '../../kernel/files.ts';
import type { OwnsName } from '../../model/ruleset.ts';
import { answers, removeSocket } from '../status-socket.ts';
import { besideSocket } from './listen.ts';
import type { RecordDirectories } from './records.ts';
import type { Repair } from './repair.ts';

export interface CniPlaces {
  /** Undefined: this host's agent serves nobody. */
  readonly socket: string | undefined;
  readonly records: Pick<RecordDirectories, 'all' | 'file'>;
  readonly spool: string;
  /** Does the deletions that clients kept, and takes away attachments that died. */
  readonly repair: Pick<Repair, 'run' | 'status' | 'recorded'>;
}

export interface CniRemains {
  /** Chains and sets that nobody needs any more, in the plugin's tables. */
  readonly owns: OwnsName;
  /** Files, sockets and directories that nobody needs any more. */
  readonly paths: readonly string[];
  /** What stays, and why. */
  readonly notes: readonly string[];
}

const NOTHING: CniRemains = { owns: () => false, paths: [], notes: [] };

/** Settles what can still be settled, unless it is only asked, and says what is to go then. @throws NetError io */
export async function cniRemains(places: CniPlaces, dryRun: boolean): Promise<CniRemains> {
  const { socket, records, spool, repair } = places;
  if (socket !== undefined && (await answers(socket))) {
    return { ...NOTHING, notes: [`another agent serves CNI clients on ${socket}: what it needs stays`] };
  }
  const kept = listDirectory(spool).length;
  if (dryRun && kept > 0) return { ...NOTHING, notes: [`${kept} deletions that clients kept would be done first`] };
  if (!dryRun) await repair.run();
  const { staying, dead } = repair.recorded();
  const attached = dryRun ? staying : [...staying, ...dead];
  const first = dryRun ? dead.map((each) => `would be taken away first: ${each}`) : [];
  if (attached.length > 0) return { ...NOTHING, notes: [...first, stays(attached)] };
  const { problems, spool: deletions } = repair.status();
  const failing = deletions.waiting > 0 ? [`${deletions.waiting} deletions in ${spool} fail, and stay`] : [];
  const empty = [...(failing.length > 0 ? [] : [spool]), ...records.all().map((directory) => `${directory}/.tmp`)];
  return {
    owns: (name) => name.startsWith('cni-'),
    paths: [...filesOf(socket), records.file, ...empty].filter((path) => statIfThere(path) !== undefined),
    notes: [...first, ...failing, ...problems],
  };
}

const stays = (attached: readonly string[]): string =>
  `${attached.length} attachments of pods stay, with what they need, such as ${attached[0]}: delete the pods first`;

const filesOf = (socket: string | undefined): string[] =>
  socket === undefined ? [] : [socket, ...Object.values(besideSocket(socket))];

/** Takes one of the paths away; a directory only when nothing is in it. @throws NetError io, foreign-object */
export function removeRemains(path: string): void {
  const found = statIfThere(path);
  if (found?.isSocket()) removeSocket(path);
  else if (found?.isDirectory()) removeDirectory(path);
  else removeIfThere(path);
}
