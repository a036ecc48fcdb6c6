// Numbers that several rtnetlink messages share.

import type { Family } from '../model/ip.ts';
import type { RouteScope } from '../model/state.ts';

export const AF = { 4: 2, 6: 10 } as const satisfies Record<Family, number>;

/** The family of an AF_* number, or undefined for one we don't handle. */
export const familyOfAf = (af: number | undefined): Family | undefined =>
  af === AF[4] ? 4 : af === AF[6] ? 6 : undefined;

export const SCOPES = { global: 0, site: 200, link: 253, host: 254 } as const;

/** RT_SCOPE_* of linux/rtnetlink.h: 253 for "link". */
export const scopeNumber = (scope: RouteScope): number => (typeof scope === 'number' ? scope : SCOPES[scope]);

const SCOPE_NAMES = new Map<number, RouteScope>(
  Object.entries(SCOPES).map(([name, number]) => [number, name as keyof typeof SCOPES]),
);

/** "link" for 253; the number where there is no name. */
export const scopeName = (value: number): RouteScope => SCOPE_NAMES.get(value) ?? value;
