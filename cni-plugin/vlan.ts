// VLAN keys of the reference bridge plugin. They are looked at with its rules and words, and then refused all the same:
// a bridge that filters VLANs isn't made. Pure.

import { anything, type Check, integer, list, object, optional } from '../model/check.ts';
import { NetError } from '../model/errors.ts';

const LAST_VLAN = 4094;
const whole = optional(integer(-(2 ** 31), 2 ** 31 - 1));
const TRUNK = object({ minID: whole, maxID: whole, id: whole }, { anyCase: true });

/** The keys of a configuration that are about VLANs. */
export const VLAN_KEYS = {
  vlan: optional(integer(0, LAST_VLAN)),
  vlanTrunk: list(trunk),
  preserveDefaultVlan: anything,
};

interface VlanKeys {
  readonly vlan: number | undefined;
  readonly vlanTrunk: readonly unknown[];
}

/** One item of `vlanTrunk`: a range of VLANs, or one. */
function trunk(...[value, path, problems]: Parameters<Check<unknown>>): unknown {
  const before = problems.length;
  const found = TRUNK(value, path, problems);
  const problem = found === undefined || problems.length > before ? undefined : trunkProblem(found);
  if (problem !== undefined) problems.push(`${path}: ${problem}`);
  return value;
}

function trunkProblem({ minID, maxID, id }: NonNullable<ReturnType<typeof TRUNK>>): string | undefined {
  if (minID === undefined && maxID !== undefined) return missing('minID');
  if (minID !== undefined && maxID === undefined) return missing('maxID');
  const wrong = Object.entries({ minID, maxID, id }).find(([, value]) => value !== undefined && !isVlan(value));
  if (wrong !== undefined) return `incorrect trunk ${wrong[0]} parameter`;
  if (minID === undefined || maxID === undefined || minID <= maxID) return undefined;
  return 'minID is greater than maxID in trunk parameter';
}

const missing = (which: string): string => `minID and maxID should be configured simultaneously, ${which} is missing`;

const isVlan = (id: number): boolean => id >= 1 && id <= LAST_VLAN;

/** @throws NetError unsupported-field when the configuration asks for a VLAN */
export function refuseVlans({ vlan, vlanTrunk }: VlanKeys): void {
  const trunks = vlanTrunk.length > 0 ? vlanTrunk : undefined;
  const asked = Object.entries({ vlan: vlan || undefined, vlanTrunk: trunks }).find(([, value]) => value !== undefined);
  if (asked === undefined) return;
  const [key, value] = asked;
  throw new NetError('unsupported-field', `unsupported field ${key}: ${JSON.stringify(value).slice(0, 200)}`, {
    subject: key,
    details: 'needs a bridge with VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING), which is not made here',
  });
}
