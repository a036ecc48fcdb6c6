// A subnet for the node and nothing else: forwarding is somebody else's work (a router, a cloud's route table).

import { familiesOf } from '../../model/lease.ts';
import type { OpenBackend, Underlay } from './backend.ts';

/** No devices, no routes; pods get the underlay's MTU. */
export const openAlloc: OpenBackend = ({ site }) => ({
  type: 'alloc',
  options: {},
  live: [],
  publishedType: '',
  backendData: {},
  mtu: Math.min(...familiesOf(site.underlay).map((family) => (site.underlay[family] as Underlay).mtu)),
  devices: [],
  base: () => ({}),
  reach: () => ({ state: {} }),
  echoes: () => undefined,
  routesAreOthers: true,
});
