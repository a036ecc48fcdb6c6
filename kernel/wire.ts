// Numbers that several rtnetlink messages share.

import type { Family } from '../model/ip.ts';
import type { RouteScope } from '../model/state.ts';

export const AF = { 4: 2, 6: 10 } as const satisfies Record<Family, number>;

/** The family of an AF_* number, or undefined for one we don't handle. */
export const familyOfAf = (af: number | undefined): Family | undefined =>
  af === AF[4] ? 4 : af === AF[6] ? 6 : undefined;

export const SCOPES = { global: 0, site: 200, link: 253, host: 254 } as const;

export const scopeNumber = (scope: RouteScope): number => (typeof scope === 'number' ? scope : SCOPES[scope]);

/** "link" for 253; the number where there is no name. */
export function scopeName(value: number): RouteScope {
  return (Object.entries(SCOPES).find(([, number]) => number === value)?.[0] as RouteScope | undefined) ?? value;
}
