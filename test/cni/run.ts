// Runs rows on a target and judges them: a row that fails is a failure, unless a mark says that it must (a known defect of
// a release of the reference, or what ours does not do yet). A mark whose row passes is a failure too.

import { availableParallelism } from 'node:os';
import type { CniVersion } from '../../cni-plugin/versions.ts';
import { type Lane, laneOf } from './lane.ts';
import { ALL, type Defect, NO_1_1_0, type Row } from './table.ts';
import type { Release, Target } from './target.ts';

/** What ours does not do yet. The list must shrink to nothing. */
export interface Pending {
  readonly reason: string;
  /** Only without the agent. */
  readonly alone?: true;
  /** All of the row's when absent. */
  readonly versions?: readonly CniVersion[];
}

export type PendingRows = Readonly<Record<string, Pending>>;

/** A row for one version. */
export interface Instance {
  readonly row: Row;
  readonly version: CniVersion;
}

export interface Verdict {
  readonly state: 'passed' | 'failed' | 'known defect' | 'pending';
  /** Why it failed, or what the mark says. */
  readonly details: string;
}

export interface Outcome extends Instance, Verdict {
  readonly seconds: number;
}

/** Every row for each of its versions; with `few` for one of them, by turns. */
export const instancesOf = (rows: readonly Row[], few = false): Instance[] =>
  rows.flatMap((row, index) => {
    const { versions = ['1.0.0'] } = row;
    const chosen = few ? versions.filter((_, at) => at === index % versions.length) : versions;
    return chosen.map((version) => ({ row, version }));
  });

const holdsFor = (version: CniVersion, { versions = ALL }: { versions?: readonly CniVersion[] }): boolean =>
  versions.includes(version);

function defectOf({ row, version }: Instance, release: Release): Defect | undefined {
  const marks = [...(row.defects ?? []), NO_1_1_0];
  return marks.find((mark) => mark.releases.includes(release) && holdsFor(version, mark));
}

type Subject = Pick<Target, 'release' | 'agent'>;

/** What becomes of a row that ended with that error, or with none. */
export function judge(
  instance: Instance,
  { release, agent }: Subject,
  pending: PendingRows,
  error: Error | undefined,
): Verdict {
  const defect = release === 'ours' ? undefined : defectOf(instance, release);
  const open = release === 'ours' ? pending[instance.row.id] : undefined;
  const isPending = open !== undefined && holdsFor(instance.version, open) && !(agent && open.alone);
  if (error !== undefined && defect !== undefined) {
    return { state: 'known defect', details: `${defect.what} (${defect.cites})` };
  }
  if (error !== undefined && isPending) return { state: 'pending', details: open.reason };
  if (error !== undefined) return { state: 'failed', details: error.message };
  if (defect !== undefined && defect.race === undefined) {
    return { state: 'failed', details: `the defect is not there: ${defect.what}` };
  }
  if (isPending) return { state: 'failed', details: `no longer pending: ${open.reason}` };
  return { state: 'passed', details: '' };
}

async function errorOf({ row, version }: Instance, lane: Lane): Promise<Error | undefined> {
  try {
    await lane.run(version, row.run);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

export interface RunSettings {
  readonly pending: PendingRows;
  /** How many at once. */
  readonly jobs: number;
}

/** More than there are cores, since rows that look at traffic wait. */
export const JOBS = availableParallelism() + 1;

/** Runs the instances in their order. */
export async function runInstances(
  target: Target,
  instances: readonly Instance[],
  settings: RunSettings,
): Promise<Outcome[]> {
  const queue = [...instances];
  const outcomes: Outcome[] = [];
  async function worker(): Promise<void> {
    const lane = laneOf(target);
    for (let instance = queue.shift(); instance !== undefined; instance = queue.shift()) {
      const started = performance.now();
      const error = await errorOf(instance, lane);
      const seconds = (performance.now() - started) / 1000;
      outcomes.push({ ...instance, ...judge(instance, target, settings.pending, error), seconds });
    }
    await lane.close();
  }
  await Promise.all(Array.from({ length: settings.jobs }, worker));
  return outcomes;
}
