// Parts of a CNI result that travel from the network configuration to the result (spec 1.1.0, "Success"). Plain values:
// the key names are the ones printed, and an absent key is not there rather than undefined.

import type { Ip, Prefix } from './ip.ts';

/** A route of the pod. Versions below 1.1.0 know only dst and gw. */
export interface CniRoute {
  readonly dst: Prefix;
  /** Next hop; absent: the gateway of the family's first address. */
  readonly gw?: Ip;
  /** Bytes. */
  readonly mtu?: number;
  /** Bytes. */
  readonly advmss?: number;
  /** Metric: lower is preferred. */
  readonly priority?: number;
  /** Routing table. 0 and absent differ. */
  readonly table?: number;
  /** rtm_scope: global 0, link 253, host 254. 0 and absent differ. */
  readonly scope?: number;
}

/** Name resolution of the pod; every part is optional. */
export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}
