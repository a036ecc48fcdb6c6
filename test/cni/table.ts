// The suite as a table: every row is a scenario on a stage, names the cases of the catalogue it covers, and the versions
// of the specification it is run for. The rows are in rows/, by what they are about.

import { type CniVersion, VERSIONS } from '../../cni-plugin/versions.ts';
import type { CaseId } from './catalogue.ts';
import type { Stage } from './stage.ts';
import type { Release } from './target.ts';

/** What a release of the reference is known to do against the specification or its own tests. */
export interface Defect {
  readonly releases: readonly Release[];
  /** The versions for which it shows; all of the row's when absent. */
  readonly versions?: readonly CniVersion[];
  readonly what: string;
  /** Issue number, or section of reference/cni.md. */
  readonly cites: string;
  /** It is a race, and does not show every time. */
  readonly race?: true;
}

export interface Row {
  readonly id: string;
  readonly covers: readonly CaseId[];
  /** Default: 1.0.0, which every plugin knows. */
  readonly versions?: readonly CniVersion[];
  /** Where ours and the reference answer differently on purpose: why. */
  readonly differs?: string;
  readonly defects?: readonly Defect[];
  /** @throws when what is seen is not what is expected */
  readonly run: (stage: Stage) => Promise<void>;
}

export const ALL = VERSIONS;
export const since = (first: CniVersion): CniVersion[] => VERSIONS.slice(VERSIONS.indexOf(first));

/** Both releases of the reference. */
export const REFERENCE: readonly Release[] = ['1.1.1', 'newer'];

/** A row run for a version that a release does not have must fail there, whatever it is about. */
export const NO_1_1_0: Defect = {
  releases: ['1.1.1'],
  versions: ['1.1.0'],
  what: 'does not know 1.1.0',
  cites: 'cni.md 1b: "1.1.1 supports spec up to 1.0.0"',
};

export const OWN_CODES = 'the reference wraps whatever it does not name in code 999; ours says which kind it is';
